r"""The distance of two gradients of a network, by the angles between what its output units get.

Zhao, Mopuri, Bilen 2021, "Dataset Condensation with Gradient Matching", https://arxiv.org/abs/2006.05929
"""

from typing import Any

import jax
import jax.numpy as jnp

_EPSILON = 1e-6  # added to the product of the norms


def gradient_distance(first: Any, second: Any) -> jax.Array:
    r"""Sums 1 - cosine over all output units of all layers.

    .. math:: \sum_{\mathrm{layers}} \sum_{i} \Big(1 - \frac{A_i \cdot B_i}{\|A_i\| \|B_i\| + 10^{-6}}\Big)

    where i runs over a layer's output units, which are the last axis of its weights: [inputs, outputs], or [height,
    width, inputs, outputs].

    Args:
      first: gradients with the structure of the network's parameters.
      second: likewise.

    Returns:
      float[], from 0 to twice the number of output units. As in the authors' code, tensors with fewer than two
      dimensions, biases and scales, do not count.

    Raises:
      ValueError: if no tensor has two dimensions.

    Example: the first of two output units agrees, the second is at a right angle; the bias does not count.
      >>> a = {"w": jnp.array([[1.0, 1.0], [0.0, 0.0]]), "b": jnp.array([1.0, -1.0])}
      >>> b = {"w": jnp.array([[2.0, 0.0], [0.0, 3.0]]), "b": jnp.array([-1.0, 1.0])}
      >>> print(f"{gradient_distance(a, b):.3f}")
      1.000

    References:
      Zhao et al. 2021, https://arxiv.org/abs/2006.05929, equation 10
    """
    leaves = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    pairs = [(a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])) for a, b in leaves if a.ndim > 1]
    if not pairs:
        raise ValueError("gradient_distance compares weights of at least two dimensions, got parameters without any.")
    return sum((_layer(a, b) for a, b in pairs[1:]), start=_layer(*pairs[0]))


def _layer(a, b):
    """The distance of one layer's gradients, float[inputs, outputs]."""
    norms = jnp.sqrt(jnp.sum(a * a, axis=0)) * _norm(b)
    return jnp.sum(1 - jnp.sum(a * b, axis=0) / (norms + _EPSILON))


def _norm(x):
    """Norms of the columns, with the derivative zero where they are zero."""
    squares = jnp.sum(x * x, axis=0)
    positive = squares > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0)
