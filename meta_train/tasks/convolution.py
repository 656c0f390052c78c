"""Convolution as a matrix product of patches, in place of `hk.Conv2D`.

Particles have filters of their own, so under vmap a convolution becomes a grouped one, which XLA runs slowly on CPUs: a
training step of a small net on 8×8 images took 15 times as long as with patches, which become one batched product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import haiku as hk
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float


def convolve(
    x: Float[Array, "batch height width inputs"], w: Float[Array, "size size inputs outputs"], *, stride: int = 1
) -> Float[Array, "batch rows columns outputs"]:
    """Convolves pictures with square filters, at ⌈height/stride⌉ rows and ⌈width/stride⌉ columns.

    Args:
      x: pictures.
      w: filters.
      stride: distance of the places where the filters are applied. Padding is "SAME".

    Example:
      >>> convolve(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)))[0, :2, :2, 0].tolist()
      [[4.0, 6.0], [6.0, 9.0]]
    """
    _, height, width, inputs = x.shape
    size = len(w)
    rows, columns = -(-height // stride), -(-width // stride)
    top, left = (max(0, (n - 1) * stride + size - full) // 2 for n, full in ((rows, height), (columns, width)))
    x = jnp.pad(x, ((0, 0), (top, size), (left, size), (0, 0)))
    shifted = [
        x[:, i : i + (rows - 1) * stride + 1 : stride, j : j + (columns - 1) * stride + 1 : stride]
        for i in range(size)
        for j in range(size)
    ]
    return jnp.concatenate(shifted, axis=-1) @ w.reshape(size * size * inputs, -1)


class Conv2D(hk.Module):
    """A convolution over images, padded so that the output is as large as the input, or a stride smaller.

    Parameters, their initialization and the result (up to rounding) are those of `hk.Conv2D` with padding "SAME".
    """

    def __init__(self, channels: int, *, kernel_size: int = 3, stride: int = 1, name: str | None = None):
        """Builds the module.

        Args:
          channels: of the output.
          kernel_size: height and width of the filters.
          stride: of the places where the filters are applied.
          name: of the module.
        """
        super().__init__(name)
        self._channels, self._size, self._stride = channels, kernel_size, stride

    def __call__(self, x: Float[Array, "batch height width inputs"]) -> Float[Array, "batch rows columns channels"]:
        """Applies the filters at ⌈height/stride⌉ rows and ⌈width/stride⌉ columns."""
        size, stride, inputs = self._size, self._stride, x.shape[-1]
        shape = (size, size, inputs, self._channels)
        w = hk.get_parameter("w", shape, init=hk.initializers.TruncatedNormal(1 / (size * size * inputs) ** 0.5))
        b = hk.get_parameter("b", (self._channels,), init=jnp.zeros)
        return convolve(x, w, stride=stride) + b
