"""A small per-parameter MLP optimizer for one task, in about a minute: what `python -m meta_train demo` trains."""

import jax
import optax

import learned_optim
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.recipes import Recipe
from meta_train.unroll import truncation


def recipe(num_steps: int = 600, seed: int = 0) -> Recipe:
    """PES on the digits MLP, runs of 100 to 500 steps."""
    optimizer = learned_optim.mlp(hidden_sizes=(8,))
    estimator = estimators.pes(
        problems.optimizer_weights(optimizer, tasks.get("digits-mlp")),
        num_particles=32,
        unroll_length=50,
        horizon=truncation.log_uniform(100, 500),
        std=0.01,
    )
    return Recipe(
        optimizer=optimizer,
        theta=optimizer.init(jax.random.key(seed)),
        estimators=(estimator,),
        outer_optimizer=optax.adam(optax.cosine_decay_schedule(1e-2, num_steps, alpha=0.1)),
        num_steps=num_steps,
        seed=seed,
    )
