"""Classical test functions of optimization, all with minimum 0.

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
    """A function to minimize, and the box that starting points are drawn from."""

    value: Callable[..., jax.Array]  # (x float32[..., size], xp=jnp) -> float32[...], at least 0; xp is jnp or np
    low: float
    high: float
    only_size: int | None = None  # None: any from 2 on


def _rosenbrock(x, xp=jnp):
    before, after = x[..., :-1], x[..., 1:]
    return xp.mean(100.0 * xp.square(after - xp.square(before)) + xp.square(1.0 - before), axis=-1)


def _rastrigin(x, xp=jnp):
    return xp.mean(10.0 + xp.square(x) - 10.0 * xp.cos(2 * np.pi * x), axis=-1)


def _ackley(x, xp=jnp):
    radius = xp.sqrt(xp.mean(xp.square(x), axis=-1) + 1e-12)  # the square root has no derivative at 0
    return 20.0 - 20.0 * xp.exp(-0.2 * radius) + np.e - xp.exp(xp.mean(xp.cos(2 * np.pi * x), axis=-1))


def _levy(x, xp=jnp):
    w = 1.0 + (x - 1.0) / 4.0
    first, before, end = w[..., 0], w[..., :-1], w[..., -1]
    middle = xp.square(before - 1.0) * (1.0 + 10.0 * xp.square(xp.sin(np.pi * before + 1.0)))
    last = xp.square(end - 1.0) * (1.0 + xp.square(xp.sin(2 * np.pi * end)))
    return (xp.square(xp.sin(np.pi * first)) + xp.sum(middle, axis=-1) + last) / x.shape[-1]


def _styblinski_tang(x, xp=jnp):
    return xp.mean(x**4 - 16.0 * xp.square(x) + 5.0 * x, axis=-1) / 2.0 + 39.16616570377142


def _himmelblau(x, xp=jnp):
    a, b = x[..., 0], x[..., 1]
    return xp.square(a**2 + b - 11.0) + xp.square(a + b**2 - 7.0)


def _beale(x, xp=jnp):
    a, b = x[..., 0], x[..., 1]
    squares = [xp.square(c - a * (1.0 - b**k)) for k, c in ((1, 1.5), (2, 2.25), (3, 2.625))]
    return squares[0] + squares[1] + squares[2]


def _booth(x, xp=jnp):
    a, b = x[..., 0], x[..., 1]
    return xp.square(a + 2.0 * b - 7.0) + xp.square(2.0 * a + b - 5.0)


ROSENBROCK = Function(_rosenbrock, -2.0, 2.0)
RASTRIGIN = Function(_rastrigin, -5.12, 5.12)
ACKLEY = Function(_ackley, -5.0, 5.0)
LEVY = Function(_levy, -10.0, 10.0)
STYBLINSKI_TANG = Function(_styblinski_tang, -5.0, 5.0)
HIMMELBLAU = Function(_himmelblau, -5.0, 5.0, 2)
BEALE = Function(_beale, -2.0, 2.0, 2)
BOOTH = Function(_booth, -10.0, 10.0, 2)


def classical_function(name: str, function: Function, *, size: int = 2, variation: Variation = FIXED) -> Task:
    """Builds the task of minimizing a test function from a random point of its box.

    Args:
      name: the task's name.
      function: what to minimize.
      size: dimensions, at least 2; Himmelblau, Beale and Booth have 2.
      variation: scales of the starting point and of the loss.

    Returns:
      A `Task` without data, normalized by the mean of the function over its box, as 4,096 fixed points give it.
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
    scale = float(np.mean(function.value(points, np)))  # in NumPy: building a task starts no JAX backend

    def init(key, config):
        del config
        return {"x": jax.random.uniform(key, (size,), jnp.float32, function.low, function.high)}

    def loss(params, key, data, config):
        del key, data, config
        return function.value(params["x"])

    def evaluate(params, key, data, config):
        return {"loss": loss(params, key, data, config)}

    task = Task(name, (), lambda key: (), init, loss, evaluate, log_normalizer(scale), scale=scale)
    return varied.vary_scales(task, variation)
