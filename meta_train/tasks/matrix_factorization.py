"""Matrix completion by a product of two factors, a task that is not convex and has no bad local minima.

Koren, Bell and Volinsky 2009, "Matrix Factorization Techniques for Recommender Systems",
https://doi.org/10.1109/MC.2009.263
"""

import jax
import jax.numpy as jnp

from meta_train.tasks import variation as varied
from meta_train.tasks.base import Task
from meta_train.tasks.base import log_normalizer
from meta_train.tasks.variation import FIXED
from meta_train.tasks.variation import Variation


def matrix_factorization(
    name: str = "matrix-factorisation",
    *,
    shape: tuple[int, int] = (30, 40),
    rank: int = 3,
    observed: float = 0.7,
    noise: float = 0.0,
    variation: Variation = FIXED,
) -> Task:
    """Builds the task of completing random matrices of low rank: the mean of `(U Vᵀ - M)²` over observed entries.

    Args:
      name: the task's name.
      shape: of the matrices.
      rank: of the matrices, and columns of the factors U and V.
      observed: chance of an entry to be observed.
      noise: standard deviation of the noise on the entries, whose own is 1.
      variation: scales of the initial parameters and of the loss.

    Returns:
      A `Task` without data: each episode draws the matrix and what of it is observed. The loss is normalized by the
      variance of an entry, 1 + noise². `evaluate` gives the loss on the entries that are not observed, without noise.

    Raises:
      ValueError: if an argument is out of range.

    Example:
      >>> matrix_factorization(shape=(4, 5), rank=1).name
      'matrix-factorisation'
    """
    if not (1 <= rank <= min(shape) and 0 < observed < 1 and noise >= 0):
        raise ValueError(
            "a matrix factorization needs 1 <= rank <= min(shape), 0 < observed < 1 and noise >= 0, "
            f"got rank={rank}, shape={shape}, observed={observed}, noise={noise}."
        )
    varied.check(variation, has_data=False, has_targets=False)

    def sample(key):
        left_key, right_key, noise_key, observed_key = jax.random.split(key, 4)
        left = jax.random.normal(left_key, (shape[0], rank))
        right = jax.random.normal(right_key, (shape[1], rank))
        matrix = left @ right.T / rank**0.5
        return matrix, noise * jax.random.normal(noise_key, shape), jax.random.bernoulli(observed_key, observed, shape)

    def init(key, config):
        del config
        left_key, right_key = jax.random.split(key)
        draw = lambda key, rows: 0.3 * jax.random.normal(key, (rows, rank)) / rank**0.25
        return {"left": draw(left_key, shape[0]), "right": draw(right_key, shape[1])}

    def mean_error(params, matrix, counted):
        errors = jnp.square(params["left"] @ params["right"].T - matrix)
        return jnp.sum(jnp.where(counted, errors, 0.0)) / jnp.maximum(jnp.sum(counted), 1).astype(errors.dtype)

    def loss(params, key, data, config):
        del key, data
        matrix, noise, seen = config
        return mean_error(params, matrix + noise, seen)

    def evaluate(params, key, data, config):
        del key, data
        matrix, _, seen = config
        return {"loss": mean_error(params, matrix, ~seen)}

    scale = 1.0 + noise**2
    task = Task(name, (), sample, init, loss, evaluate, log_normalizer(scale), scale=scale)
    return varied.vary_scales(task, variation)
