"""`prodigy-residual-schedule-v1`: Prodigy with a learned schedule and mix, 26 weights, on ten families.

How it was chosen stands in docs/lab-log.md, what came out in pretrained/prodigy-residual-schedule-v1/card.md.
"""

import jax
import optax

import learned_optim
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.problems import objectives
from meta_train.recipes import Recipe
from meta_train.recipes.adam_residual_schedule_v1 import pull
from meta_train.unroll import truncation

# Antithetic pairs of each task: those where gradients are noise for the most part have more.
PAIRS = {
    "digits-mlp": 6,
    "digits-mlp-tanh": 6,
    "digits-softmax": 8,
    "digits-conv": 6,
    "digits-resnet-small": 6,
    "digits-vit-small": 10,
    "digits-autoencoder": 12,
    "digits-vae": 6,
    "docs-gru-small": 12,
    "docs-transformer-small": 12,
    "diabetes-mlp": 6,
    "quadratic-ill-conditioned": 6,
}


def recipe(num_steps: int = 400, seed: int = 0) -> Recipe:
    """NRES on all families, episodes of 100 to 2,000 steps, a sixth of them of unknown length; half the way is kept."""
    optimizer = learned_optim.prodigy_residual(hidden_size=0, step_hidden_size=0, mix=False)
    return on_all_families(optimizer, PAIRS, num_steps, seed, horizon_dropout=0.15, share=0.5)


def on_all_families(optimizer, pairs, num_steps, seed, *, horizon_dropout, share):
    """The recipe for an optimizer and a number of antithetic pairs of each task."""
    theta = optimizer.init(jax.random.key(seed))
    learning_rate = optax.warmup_cosine_decay_schedule(0.0, 1e-2, min(20, num_steps // 10), num_steps, 5e-4)
    return Recipe(
        optimizer=optimizer,
        theta=theta,
        estimators=tuple(_estimator(optimizer, name, number, horizon_dropout) for name, number in pairs.items()),
        outer_optimizer=optax.chain(
            optax.scale_by_adam(b2=0.99), pull(theta, 0.15), optax.scale_by_learning_rate(learning_rate)
        ),
        num_steps=num_steps,
        seed=seed,
        clip_norm=None,
        share=share,
    )


def _estimator(optimizer, name, num_pairs, horizon_dropout):
    """Of one task: late losses count more, and all tasks have gradients of the same norm."""
    task = tasks.get(name, sampled=True)
    task = task._replace(normalize=tasks.power_normalizer(task.normalize.keywords["scale"], power=0.3))
    problem = objectives.late(problems.optimizer_weights(optimizer, task, horizon_dropout=horizon_dropout), power=1.0)
    horizon = truncation.power_law(100, 2000, 1.5)
    nres = estimators.nres(problem, num_particles=num_pairs, unroll_length=50, horizon=horizon, std=0.03)
    return estimators.normalised(nres, power=1.0)
