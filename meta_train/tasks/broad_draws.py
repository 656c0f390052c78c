"""Numbers of different ranges from uniform ones, and masks.

An episode draws its uniform numbers in one call: each call of a random generator makes programs compile longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Bool
    from jaxtyping import Float
    from jaxtyping import Int32


def log_uniform(u: Float[Array, ""], low: float, high: float) -> Float[Array, ""]:
    """A number from low to high whose logarithm is uniform, for u uniform in 0…1.

    Example:
      >>> float(log_uniform(jnp.float32(0.5), 1.0, 4.0))
      2.0
    """
    return jnp.exp(float(np.log(low)) + float(np.log(high / low)) * u)


def integer(u: Float[Array, ""], low: Int32[Array, ""] | int, high: Int32[Array, ""] | int) -> Int32[Array, ""]:
    """An integer from low to high, both included and equally likely, for u uniform in 0…1.

    Example:
      >>> [int(integer(jnp.float32(u), 1, 3)) for u in (0.0, 0.5, 0.999, 1.0)]
      [1, 2, 3, 3]
    """
    low, high = jnp.asarray(low, jnp.int32), jnp.asarray(high, jnp.int32)
    number = low + jnp.floor(u * (high - low + 1).astype(u.dtype)).astype(jnp.int32)
    return jnp.minimum(number, high)


def first(size: int, count: Int32[Array, ""]) -> Bool[Array, " size"]:
    """The mask of the first places of so many.

    Example:
      >>> first(3, jnp.int32(2)).tolist()
      [True, True, False]
    """
    return jnp.arange(size, dtype=jnp.int32) < count
