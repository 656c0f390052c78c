"""Classical test functions of optimisation, all with minimum 0.

Their formulas and boxes are those of Surjanovic and Bingham's collection, https://www.sfu.ca/~ssurjano/optimization.html

Deviations: Rosenbrock, Rastrigin, Levy and Styblinski-Tang are means over the dimensions where the collection sums, so
that losses do not grow with the size; a constant brings the minimum of Styblinski-Tang to 0.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.tasks import variation as varied
from meta_train.tasks.base import Task
from meta_train.tasks.base import log_normalizer
from meta_train.tasks.variation import FIXED
from meta_train.tasks.variation import Variation


class Function(NamedTuple):
    """A function to minimise, and the box that starting points are drawn from."""

    value: Callable[[jax.Array], jax.Array]  # (x float32[size]) -> float32[], at least 0
    low: float
    high: float
    only_size: int | None = None  # None: any from 2 on


def _rosenbrock(x):
    return jnp.mean(100.0 * jnp.square(x[1:] - jnp.square(x[:-1])) + jnp.square(1.0 - x[:-1]))


def _rastrigin(x):
    return jnp.mean(10.0 + jnp.square(x) - 10.0 * jnp.cos(2 * np.pi * x))


def _ackley(x):
    radius = jnp.sqrt(jnp.mean(jnp.square(x)) + 1e-12)  # the square root has no derivative at 0
    return 20.0 - 20.0 * jnp.exp(-0.2 * radius) + np.e - jnp.exp(jnp.mean(jnp.cos(2 * np.pi * x)))


def _levy(x):
    w = 1.0 + (x - 1.0) / 4.0
    middle = jnp.square(w[:-1] - 1.0) * (1.0 + 10.0 * jnp.square(jnp.sin(np.pi * w[:-1] + 1.0)))
    last = jnp.square(w[-1] - 1.0) * (1.0 + jnp.square(jnp.sin(2 * np.pi * w[-1])))
    return (jnp.square(jnp.sin(np.pi * w[0])) + jnp.sum(middle) + last) / len(x)


def _styblinski_tang(x):
    return jnp.mean(x**4 - 16.0 * jnp.square(x) + 5.0 * x) / 2.0 + 39.16616570377142


def _himmelblau(x):
    return jnp.square(x[0] ** 2 + x[1] - 11.0) + jnp.square(x[0] + x[1] ** 2 - 7.0)


def _beale(x):
    return sum(jnp.square(c - x[0] * (1.0 - x[1] ** k)) for k, c in ((1, 1.5), (2, 2.25), (3, 2.625)))


def _booth(x):
    return jnp.square(x[0] + 2.0 * x[1] - 7.0) + jnp.square(2.0 * x[0] + x[1] - 5.0)


ROSENBROCK = Function(_rosenbrock, -2.0, 2.0)
RASTRIGIN = Function(_rastrigin, -5.12, 5.12)
ACKLEY = Function(_ackley, -5.0, 5.0)
LEVY = Function(_levy, -10.0, 10.0)
STYBLINSKI_TANG = Function(_styblinski_tang, -5.0, 5.0)
HIMMELBLAU = Function(_himmelblau, -5.0, 5.0, 2)
BEALE = Function(_beale, -2.0, 2.0, 2)
BOOTH = Function(_booth, -10.0, 10.0, 2)


def classical_function(name: str, function: Function, *, size: int = 2, variation: Variation = FIXED) -> Task:
    """Builds the task of minimising a test function from a random point of its box.

    Args:
      name: the task's name.
      function: what to minimise.
      size: dimensions, at least 2; Himmelblau, Beale and Booth have 2.
      variation: scales of the starting point and of the loss.

    Returns:
      A `Task` without data, normalised by the mean of the function over its box, as 4,096 fixed points give it.
      `evaluate` gives the same loss.

    Raises:
      ValueError: if the function does not exist for that size.

    Example:
      >>> classical_function("rosenbrock", ROSENBROCK).name
      'rosenbrock'
    """
    if size < 2 or function.only_size not in (None, size):
        raise ValueError(f"size must be {function.only_size or 'at least 2'} for this function, got {size}.")
    varied.check(variation, has_data=False, has_targets=False)
    points = np.random.default_rng(0).uniform(function.low, function.high, (4096, size)).astype(np.float32)
    scale = float(jnp.mean(jax.vmap(function.value)(points)))

    def init(key, config):
        del config
        return {"x": jax.random.uniform(key, (size,), jnp.float32, function.low, function.high)}

    def loss(params, key, data, config):
        del key, data, config
        return function.value(params["x"])

    def evaluate(params, key, data, config):
        return {"loss": loss(params, key, data, config)}

    task = Task(name, (), lambda key: (), init, loss, evaluate, log_normalizer(scale))
    return varied.vary_scales(task, variation)
