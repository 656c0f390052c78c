"""3×3 convolutions as products of patches and filters, with batches of filters and second derivatives in mind.

Each episode adapts filters of its own, so that under vmap a convolution is a grouped one, which XLA runs slowly on
CPUs, and more slowly so in derivatives. A product with patches is a batched matrix product, and so are its derivatives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float


def conv3x3(
    x: Float[Array, "batch height width inputs"], w: Float[Array, "3 3 inputs outputs"], *, stride: int = 1
) -> Float[Array, "batch rows columns outputs"]:
    """Convolves pictures with 3×3 filters, at ⌈height/stride⌉ rows and ⌈width/stride⌉ columns.

    Args:
      x: pictures.
      w: filters.
      stride: distance of the places where the filters are applied. Padding is "SAME".

    Example:
      >>> conv3x3(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)))[0, :2, :2, 0].tolist()
      [[4.0, 6.0], [6.0, 9.0]]
    """
    _, height, width, inputs = x.shape
    rows, columns = -(-height // stride), -(-width // stride)
    top, left = (max(0, (n - 1) * stride + 3 - full) // 2 for n, full in ((rows, height), (columns, width)))
    x = jnp.pad(x, ((0, 0), (top, 3), (left, 3), (0, 0)))
    shifted = [
        x[:, i : i + (rows - 1) * stride + 1 : stride, j : j + (columns - 1) * stride + 1 : stride]
        for i in range(3)
        for j in range(3)
    ]
    return jnp.concatenate(shifted, axis=-1) @ w.reshape(9 * inputs, -1)
