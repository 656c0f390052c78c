"""`rnnprop-general-v1`: RNNprop (Lv et al. 2017) for a thousand steps, by backpropagation and then by PES.

Lv, Jiang, Li 2017, "Learning Gradient Descent: Better Generalization and Longer Horizons",
https://arxiv.org/abs/1703.03578. From there are the inputs, the network, and the random scaling of coordinates: each
episode draws a factor for each parameter, e to a power between -1 and 1. Deviations: the paper's powers reach further,
while here each episode also draws the scale of all initial parameters; perceptrons and linear models of many kinds, a
convolutional net and a recurrent one in place of one network, instead of the added convex functions; one layer of 16
units, so that an update costs a quarter of one by the paper's two of 20; and after truncated backpropagation, which
looks 20 steps ahead in episodes of 100, PES on episodes of 100 to 2,000 steps, where late losses count more.
"""

import math

import jax
import jax.numpy as jnp
import optax

import learned_optim
from learned_optim import LearnedOptimizer
from learned_optim.optimizers.rnnprop import by_units
from meta_train import estimators
from meta_train import problems
from meta_train import tasks
from meta_train.estimators import Estimator
from meta_train.problems import objectives
from meta_train.recipes import Recipe
from meta_train.tasks import augment
from meta_train.unroll import truncation

FAMILIES = ("broad-perceptron-narrow", "broad-linear", "digits-conv", "docs-gru-small")
SCALING = 1.0  # largest power of e
SHARE_OF_BACKPROP = 0.15  # by then its losses no longer fall
RATE_OF_PES = 1 / 3  # relative to that of backpropagation, whose estimates are less noisy


def recipe(num_steps: int = 3000, seed: int = 0, num_particles: int = 4) -> Recipe:
    """A seventh of the steps is backpropagation. `num_particles` counts a task's networks, and then pairs of them."""
    optimizer = learned_optim.rnnprop(hidden_size=16, num_layers=1)
    switch = round(SHARE_OF_BACKPROP * num_steps)
    cosine = optax.warmup_cosine_decay_schedule(0.0, 3e-3, min(20, num_steps // 10), num_steps, 1e-4)
    rate = lambda step: cosine(step) * jnp.where(step < switch, 1.0, RATE_OF_PES)
    return Recipe(
        optimizer=optimizer,
        theta=optimizer.init(jax.random.key(seed)),
        estimators=tuple(backprop_then_pes(optimizer, name, num_particles, switch) for name in FAMILIES),
        outer_optimizer=optax.adam(rate),
        num_steps=num_steps,
        seed=seed,
        clip_norm=None,
    )


def backprop_then_pes(optimizer: LearnedOptimizer, task_name: str, num_particles: int, switch: int) -> Estimator:
    """Truncated backpropagation for `switch` outer steps, PES from then on; gradients of either have norm 1.

    Args:
      optimizer: an `rnnprop`.
      task_name: a task of the suites; each episode draws a variation of it.
      num_particles: networks at a time, and pairs of them.
      switch: outer steps of backpropagation.
    """
    task = tasks.get(task_name, sampled=True)
    task = augment.reparametrized_per_parameter(task, math.exp(-SCALING), math.exp(SCALING))
    task = task._replace(normalize=tasks.power_normalizer(task.scale, power=0.3))
    sampled = problems.sampled_coordinates(by_units(optimizer), task, every=4)
    backprop = estimators.truncated_backprop(
        sampled, num_particles=num_particles, unroll_length=20, horizon=truncation.constant(100)
    )
    whole = problems.optimizer_weights(in_one_vector(by_units(optimizer)), task)
    pes = estimators.pes(
        objectives.late(whole, power=1.0),
        num_particles=num_particles,
        unroll_length=50,
        horizon=truncation.power_law(100, 2000, 1.5),
        std=0.01,
    )
    turns = (lambda step: step < switch, lambda step: step >= switch)
    return estimators.normalized(estimators.weighted_sum((backprop, pes), turns), power=1.0)


def in_one_vector(optimizer: LearnedOptimizer) -> LearnedOptimizer:
    """The optimizer on all parameters as one vector: for one that looks at each coordinate alone, only faster."""
    return optimizer._replace(transform=lambda theta, **options: optax.flatten(optimizer.transform(theta, **options)))
