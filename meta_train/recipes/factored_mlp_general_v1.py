"""`factored-mlp-general-v1`: the small factored MLP of Metz et al. 2022, by PES on six families.

What came out stands in pretrained/factored-mlp-general-v1/card.md.
"""

import jax
import optax

import learned_optim
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.recipes import Recipe
from meta_train.unroll import truncation

# Antithetic pairs of each task.
PAIRS = {
    "digits-mlp": 16,
    "digits-mlp-tanh": 16,
    "digits-conv": 12,
    "digits-autoencoder": 12,
    "docs-gru-small": 12,
    "diabetes-mlp": 16,
}


def recipe(num_steps: int = 1500, seed: int = 0) -> Recipe:
    """PES on all families with what their episodes draw, episodes of 100 to 2,000 steps."""
    return from_random_weights(learned_optim.factored_mlp(), num_steps, seed)


def from_random_weights(optimizer, num_steps, seed):
    """The recipe for any architecture."""
    return Recipe(
        optimizer=optimizer,
        theta=optimizer.init(jax.random.key(seed)),
        estimators=pes(optimizer),
        outer_optimizer=adam(num_steps),
        num_steps=num_steps,
        seed=seed,
        clip_norm=None,
    )


def adam(num_steps):
    """Moves theta."""
    return optax.adam(optax.cosine_decay_schedule(3e-3, num_steps, alpha=0.05))


def pes(optimizer):
    """PES on each task; a task's gradient is divided by its norm to the power .75, so that all have a say."""
    horizon = truncation.log_uniform(100, 2000)
    return tuple(
        estimators.normalised(
            estimators.pes(
                problems.optimizer_weights(optimizer, tasks.get(name, sampled=True)),
                num_particles=pairs,
                unroll_length=50,
                horizon=horizon,
                std=0.01,
            ),
            power=0.75,
        )
        for name, pairs in PAIRS.items()
    )
