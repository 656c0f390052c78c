"""`mlp-digits-v1`: a per-parameter MLP optimizer, one hidden layer of 8, meta-trained on the three small tasks.

docs/lab-log.md says how it was chosen; the results are in pretrained/mlp-digits-v1/card.md.
"""

import jax
import optax

import learned_optim
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.recipes import Recipe
from meta_train.unroll import truncation


def recipe(num_steps: int = 3000, seed: int = 0) -> Recipe:
    """PES on the three tasks, runs of 100 to 2,000 steps."""
    optimizer = learned_optim.mlp(hidden_sizes=(8,))
    return Recipe(
        optimizer=optimizer,
        theta=optimizer.init(jax.random.key(seed)),
        estimators=tuple(
            estimators.pes(
                problems.optimizer_weights(optimizer, tasks.get(name)),
                num_particles=16,
                unroll_length=50,
                horizon=truncation.log_uniform(100, 2000),
                std=0.01,
            )
            for name in ("digits-mlp", "digits-softmax", "quadratic")
        ),
        outer_optimizer=optax.adam(optax.cosine_decay_schedule(3e-3, num_steps, alpha=0.1)),
        num_steps=num_steps,
        seed=seed,
    )
