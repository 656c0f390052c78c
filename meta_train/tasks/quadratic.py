"""Random quadratic functions, the first test of Andrychowicz et al. 2016 (https://arxiv.org/abs/1606.04474)."""

import jax
import jax.numpy as jnp

from meta_train.tasks.base import Task
from meta_train.tasks.base import log_normalizer


def quadratic(name: str = "quadratic", *, size: int = 10) -> Task:
    """Builds the task of minimising `mean((W x - y) ** 2)` with W and y drawn from a normal distribution.

    Args:
      name: the task's name.
      size: length of x and y. The paper has 10, and the sum instead of the mean.

    Returns:
      A `Task` without data: each episode draws W float32[size, size], y float32[size] and a starting point from the
      standard normal distribution. `evaluate` gives the same loss.

    Raises:
      ValueError: if size is below 1.

    Example:
      >>> quadratic(size=3).name
      'quadratic'
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}.")

    def sample(key):
        matrix_key, target_key = jax.random.split(key)
        return jax.random.normal(matrix_key, (size, size)), jax.random.normal(target_key, (size,))

    def init(key, config):
        del config
        return {"x": jax.random.normal(key, (size,))}

    def loss(params, key, data, config):
        del key, data
        matrix, target = config
        return jnp.mean(jnp.square(matrix @ params["x"] - target))

    def evaluate(params, key, data, config):
        return {"loss": loss(params, key, data, config)}

    return Task(name, (), sample, init, loss, evaluate, log_normalizer(size + 1.0))  # E[loss] at the start: size + 1
