"""`coordinatewise-lstm-quadratic-v1`: the LSTM of Andrychowicz et al. 2016 on random quadratics of ten dimensions.

Andrychowicz et al. 2016, "Learning to learn by gradient descent by gradient descent", https://arxiv.org/abs/1606.04474

As in the paper: the losses of all 100 steps count, truncated backpropagation through 20 of them, no second derivatives,
the outer optimizer Adam. Deviations: 16 functions at a time where the paper's code has one, a cosine decay of the outer
rate in place of a search for it, clipping, and a fixed number of outer steps in place of a choice by validation.
"""

import jax
import optax

import learned_optim
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.recipes import Recipe
from meta_train.unroll import truncation


def recipe(num_steps: int = 10_000, seed: int = 0) -> Recipe:
    """Two thousand batches of 16 functions, five windows each."""
    return as_in_the_paper("quadratic", 16, num_steps, seed)


def as_in_the_paper(task_name: str, num_particles: int, num_steps: int, seed: int) -> Recipe:
    """A coordinatewise LSTM with two layers of 20 units, for one task."""
    optimizer = learned_optim.coordinatewise_lstm()
    task = tasks.get(task_name)
    scale = task.normalize.keywords["scale"]
    task = task._replace(normalize=lambda loss: loss / scale)  # the loss itself, and not its logarithm
    estimator = estimators.truncated_backprop(
        problems.optimizer_weights(optimizer, task, second_derivatives=False),
        num_particles=num_particles,
        unroll_length=20,
        horizon=truncation.constant(100),
    )
    return Recipe(
        optimizer=optimizer,
        theta=optimizer.init(jax.random.key(seed)),
        estimators=(estimator,),
        outer_optimizer=optax.adam(optax.cosine_decay_schedule(3e-3, num_steps, alpha=0.03)),
        num_steps=num_steps,
        seed=seed,
        clip_norm=1.0,
    )
