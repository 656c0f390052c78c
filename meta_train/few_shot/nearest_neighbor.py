"""The nearest support example: what a few-shot method must beat."""

from typing import Any

import jax
import jax.numpy as jnp

from meta_train.few_shot.base import Batch
from meta_train.few_shot.evaluate import EvaluatedFn


def nearest_neighbor(ways: int) -> EvaluatedFn:
    """Builds the classifier that learns nothing: the class of the nearest support example, by distance of pixels.

    Args:
      ways: classes of an episode.

    Returns:
      A function for `evaluate`, whose theta may be anything. Its outputs are minus the squared distance to the nearest
      example of each class.

    Example:
      >>> support = Batch(jnp.array([[0.0], [3.0]]), jnp.array([0, 1]))
      >>> nearest_neighbor(2)((), jax.random.key(0), support, jnp.array([[1.0], [4.0]])).tolist()
      [[-1.0, -4.0], [-16.0, -1.0]]
    """

    def adapt(theta: Any, key: jax.Array, support: Batch, query_inputs: jax.Array, /) -> jax.Array:
        del theta, key
        flat = lambda x: x.reshape(len(x), -1)
        distances = jnp.sum(jnp.square(flat(query_inputs)[:, None] - flat(support.inputs)), axis=-1)  # [n, examples]
        of_class = support.targets == jnp.arange(ways, dtype=support.targets.dtype)[:, None]  # [ways, examples]
        return -jnp.min(jnp.where(of_class, distances[:, None], jnp.inf), axis=-1)  # [n, ways]

    return adapt
