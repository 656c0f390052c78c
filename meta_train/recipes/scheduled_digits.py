"""Schedules of learning rate, momentum and weight decay for SGD on digits: hyperparameters as theta.

Micaelli, Storkey 2020, "Gradient-based Hyperparameter Optimization Over Long Horizons",
https://arxiv.org/abs/2007.07869
"""

import optax

from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.recipes import Recipe
from meta_train.unroll import truncation

TRAINING_STEPS = 200


def recipe(num_steps: int = 60, seed: int = 0) -> Recipe:
    """Theta is a `HyperTheta` of five blocks: backpropagation through trainings of 200 steps to the held-out loss."""
    problem = problems.hyperparameters(problems.task_bilevel(tasks.get("digits-mlp")), num_steps=TRAINING_STEPS)
    return Recipe(
        optimizer=None,
        theta=problems.hyper_theta(learning_rate=0.03, num_blocks=5),
        estimators=(estimators.full_backprop(problem, num_particles=4, horizon=truncation.constant(TRAINING_STEPS)),),
        outer_optimizer=optax.adam(optax.cosine_decay_schedule(0.1, num_steps)),
        num_steps=num_steps,
        seed=seed,
    )
