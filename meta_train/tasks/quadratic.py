"""Random quadratic functions: those of Andrychowicz et al. 2016 (https://arxiv.org/abs/1606.04474), and others whose
condition number and noise are chosen."""

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.tasks import variation as varied
from meta_train.tasks.base import Task
from meta_train.tasks.base import log_normalizer
from meta_train.tasks.variation import FIXED
from meta_train.tasks.variation import Variation


def quadratic(name: str = "quadratic", *, size: int = 10, variation: Variation = FIXED) -> Task:
    """Builds the task of minimizing `mean((W x - y) ** 2)` with W and y drawn from a normal distribution.

    Args:
      name: the task's name.
      size: length of x and y. The paper has 10, and the sum instead of the mean.
      variation: scales of the initial parameters and of the loss.

    Returns:
      A `Task` without data: each episode draws W float32[size, size], y float32[size] and a starting point from the
      standard normal distribution. The loss is normalized by its mean at the start, size + 1. `evaluate` gives the same
      loss.

    Raises:
      ValueError: if size is below 1.

    Example:
      >>> quadratic(size=3).name
      'quadratic'
    """
    _check_size(size)
    varied.check(variation, has_data=False, has_targets=False)

    def sample(key):
        matrix_key, target_key = jax.random.split(key)
        return jax.random.normal(matrix_key, (size, size)), jax.random.normal(target_key, (size,))

    def loss(params, key, data, config):
        del key, data
        matrix, target = config
        return jnp.mean(jnp.square(matrix @ params["x"] - target))

    def evaluate(params, key, data, config):
        return {"loss": loss(params, key, data, config)}

    scale = size + 1.0
    task = Task(name, (), sample, _start(size), loss, evaluate, log_normalizer(scale), scale=scale)
    return varied.vary_scales(task, variation)


def ill_conditioned_quadratic(
    name: str = "quadratic-ill-conditioned",
    *,
    size: int = 20,
    condition: tuple[float, float] = (1.0, 1e4),
    noise: float = 0.0,
    variation: Variation = FIXED,
) -> Task:
    """Builds the task of minimizing `mean(λ (Q (x - x*) - ε) ** 2)` for a drawn rotation Q and drawn condition number.

    Args:
      name: the task's name.
      size: length of x.
      condition: range from which an episode draws the ratio of the largest to the smallest eigenvalue, log-uniformly.
        The eigenvalues λ are spread evenly on a logarithmic scale; their mean is 1.
      noise: standard deviation of ε, which is drawn at every step: the gradient is noisy, most where λ is large.
      variation: scales of the initial parameters and of the loss.

    Returns:
      A `Task` without data: each episode draws condition number, Q, minimum x* and a starting point. The loss is
      normalized by its mean at the start, 2 + noise². `evaluate` gives the loss without noise.

    Raises:
      ValueError: if an argument is out of range.

    Example:
      >>> ill_conditioned_quadratic(size=3).name
      'quadratic-ill-conditioned'
    """
    _check_size(size)
    low, high = condition
    if not (1 <= low <= high and noise >= 0):
        raise ValueError(f"condition must be a pair 1 <= low <= high and noise >= 0, got {condition} and {noise}.")
    varied.check(variation, has_data=False, has_targets=False)

    def sample(key):
        condition_key, rotation_key, minimum_key = jax.random.split(key, 3)
        log_ratio = jax.random.uniform(condition_key, (), jnp.float32, np.log(low), np.log(high))
        curvature = jnp.exp(-log_ratio * jnp.linspace(0.0, 1.0, size))
        directions, _ = jnp.linalg.qr(jax.random.normal(rotation_key, (size, size)))  # uniform, but for their signs
        return curvature / jnp.mean(curvature), directions.T, jax.random.normal(minimum_key, (size,))

    def error(params, shift, config):
        curvature, rotation, minimum = config
        return jnp.mean(curvature * jnp.square(rotation @ (params["x"] - minimum) - shift))

    def loss(params, key, data, config):
        del data
        return error(params, noise * jax.random.normal(key, (size,)) if noise else 0.0, config)

    def evaluate(params, key, data, config):
        del key, data
        return {"loss": error(params, 0.0, config)}

    scale = 2.0 + noise**2
    task = Task(name, (), sample, _start(size), loss, evaluate, log_normalizer(scale), scale=scale)
    return varied.vary_scales(task, variation)


def _start(size):
    return lambda key, config: {"x": jax.random.normal(key, (size,))}


def _check_size(size):
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}.")
