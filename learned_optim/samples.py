"""Samples of the coordinates of all tensors, from which statistics of the tensors are computed together.

The program for statistics of whole tensors would grow with the number of tensors, and each statistic would read a
tensor once more. If a tensor is sharded, devices exchange its sample and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from learned_optim import features

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float32

MAX_SIZE = 2048  # coordinates of a tensor in its sample


def strides(shape: Sequence[int]) -> tuple[int, ...]:
    """The distances of the sampled coordinates along each dimension; all 1 if the tensor is not larger than a sample.

    Example:
      >>> strides((30, 3)), strides((300, 300))
      ((1, 1), (9, 9))
    """
    made = [1] * len(shape)
    while math.prod(_sampled(shape, made)) > MAX_SIZE:
        longest = int(np.argmax(_sampled(shape, made)))
        made[longest] *= 3  # an odd number, so that the grid meets every part of a side made of equal parts
    return tuple(made)


def take(xs: Sequence[jax.Array]) -> Float32[Array, "tensors sample"]:
    """The samples of all tensors, one a row, with zeros at the ends of the shorter ones.

    Example:
      >>> import jax.numpy as jnp
      >>> take([jnp.ones((2, 2)), jnp.ones(3)])
      Array([[1., 1., 1., 1.],
             [1., 1., 1., 0.]], dtype=float32)
    """
    if not xs:
        return jnp.zeros((0, 0), jnp.float32)
    width = int(max(sizes(xs)))
    rows = [_grid(x).ravel() for x in xs]
    return jnp.stack([jnp.pad(row.astype(jnp.float32), (0, width - len(row))) for row in rows])


def sizes(xs: Sequence[jax.Array]) -> np.ndarray:
    """How many coordinates each sample has, int64[tensors]."""
    return np.array([math.prod(_sampled(x.shape, strides(x.shape))) for x in xs], np.int64)


def mean_squares(rows: Float32[Array, "tensors sample"], numbers: np.ndarray) -> Float32[Array, " tensors"]:
    """Mean of the squares of each sample, at most 1e37.

    Args:
      rows: as `take` returns them.
      numbers: as `sizes` returns them.
    """
    return jnp.minimum(jnp.sum(jnp.square(rows), axis=1) / numbers.astype(np.float32), features.MAX_MEAN_SQUARE)


def _sampled(shape, made):
    return [-(-side // stride) for side, stride in zip(shape, made, strict=True)]


def _grid(x):
    """The sampled coordinates."""
    steps = strides(x.shape)
    if max(steps, default=1) == 1 or max(x.shape) >= 2**31:  # indices are int32
        return x[tuple(slice(None, None, step) for step in steps)]
    # From indices XLA makes a gather: each device looks up what it holds. From slices with strides it would make copies
    # of neighbors' parts, as large as the parts themselves.
    indices = [np.arange(0, side, step, dtype=np.int32) for side, step in zip(x.shape, steps, strict=True)]
    return x.at[np.ix_(*indices)].get(mode="promise_in_bounds", indices_are_sorted=True, unique_indices=True)
