"""What all particles have in common, kept in slices: a part of an estimator's state that is as long as theta.

Every leaf of an estimator's state has a leading axis of particles, along which devices share it. A moving average of
the gradient, say, belongs to no particle. Copied to each it would take the memory of theta once a particle; in slices
it takes that memory once in all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Num


def cut(whole: Num[Array, "rows size"], num_particles: int) -> Num[Array, "particles rows slice"]:
    """Cuts an array along its last axis into a slice for each particle, the last of them filled up with zeros.

    Example:
      >>> import jax.numpy as jnp
      >>> print(cut(jnp.array([[1, 2, 3]]), 2))
      [[[1 2]]
       [[3 0]]]
    """
    rows, size = whole.shape
    width = -(-size // num_particles)
    filled = jnp.pad(whole, ((0, 0), (0, num_particles * width - size)))
    return jnp.moveaxis(filled.reshape(rows, num_particles, width), 1, 0)


def join(slices: Num[Array, "particles rows slice"], size: int, axis_name: str | None) -> Num[Array, "rows size"]:
    """Puts the slices of all particles together.

    Args:
      slices: those of all particles, or of a shard of them.
      size: length of the array that was cut.
      axis_name: the mapped axis over which the particles are spread, or None.

    Returns:
      The array, the same on all shards.
    """
    if axis_name is not None:
        slices = jax.lax.all_gather(slices, axis_name, tiled=True)
    particles, rows, width = slices.shape
    return jnp.moveaxis(slices, 0, 1).reshape(rows, particles * width)[:, :size]


def cut_like(
    whole: Num[Array, "rows size"], slices: Num[Array, "particles rows slice"], axis_name: str | None
) -> Num[Array, "particles rows slice"]:
    """Cuts an array as it was cut before, and returns the slices of this shard's particles.

    Args:
      whole: the array, the same on all shards.
      slices: the shard's slices before.
      axis_name: the mapped axis over which the particles are spread, or None.
    """
    particles = slices.shape[0]
    if axis_name is None:
        return cut(whole, particles)
    all_slices = cut(whole, particles * jax.lax.axis_size(axis_name))
    return jax.lax.dynamic_slice_in_dim(all_slices, jax.lax.axis_index(axis_name) * particles, particles)
