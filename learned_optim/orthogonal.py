"""Orthogonalization of matrices by Newton–Schulz iterations, as in Muon.

Jordan, Jin, Boza, You, Cesista, Newhouse, Bernstein 2024, "Muon: An optimizer for hidden layers in neural networks",
https://kellerjordan.github.io/posts/muon

Deviations: large matrices are split into blocks, and the iterations work on the Gram matrices of blocks. If a matrix is
sharded over several devices, they exchange only these small matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from learned_optim import features

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float32

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, https://arxiv.org/abs/2502.16982
_TINY = 1e-24


def as_wide(
    x: Float32[Array, "*leading columns"],
) -> tuple[Float32[Array, "short long"], Callable[[Float32[Array, "short long"]], Float32[Array, "*leading columns"]]]:
    """Returns a tensor as a wide matrix, and the function that gives a matrix of that shape the shape of x.

    A tall matrix is transposed.
    """
    matrix = x.reshape(-1, x.shape[-1])
    if matrix.shape[0] > matrix.shape[1]:
        return matrix.T, lambda wide: wide.T.reshape(x.shape)
    return matrix, lambda wide: wide.reshape(x.shape)


def newton_schulz(
    gram: Float32[Array, "*blocks rows rows"], num_iterations: int
) -> Float32[Array, "*blocks rows rows"]:
    """Returns the matrix P such that P A is the result of the iterations A ← (a I + b G + c G²) A with G = A Aᵀ.

    P is a polynomial in the initial G, so the iterations need no product of the size of A.

    Args:
      gram: the initial G, with eigenvalues of at most 1.
      num_iterations: at least 1.
    """
    a, b, c = COEFFICIENTS
    identity = jnp.broadcast_to(jnp.eye(gram.shape[-1], dtype=jnp.float32), gram.shape)
    total = factor = a * identity + b * gram + c * (gram @ gram)
    for _ in range(num_iterations - 1):
        gram = factor @ gram @ factor
        factor = a * identity + b * gram + c * (gram @ gram)
        total = factor @ total
    return total


def orthogonalize(
    x: Float32[Array, "*leading columns"], num_iterations: int, max_block: int
) -> Float32[Array, "*leading columns"]:
    """Moves the singular values of a matrix towards one and keeps its singular vectors.

    The matrix A is first scaled such that the Frobenius norm of A Aᵀ is 1. Then no singular value is above 1, and most
    are closer to 1 than if the Frobenius norm of A were 1. Only the first and the last product have the size of x.

    Args:
      x: a matrix of any scale; leading dimensions are flattened.
      num_iterations: number of Newton–Schulz iterations. After three, singular values of at least 1/30 of the largest
        are between .65 and 1.25, and smaller ones have grown about 25 times relative to the largest.
      max_block: the largest number of rows in a block. If the shorter side is longer, it is split evenly into blocks,
        and each block is orthogonalized on its own. This bounds the cost per coordinate.

    Returns:
      The matrix in the shape of x. Zeros stay zeros.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> x = jnp.array([[3.0, 4.0], [0.0, 2.0]])
      >>> values = lambda x: [f"{value:.2f}" for value in jnp.linalg.svd(x, compute_uv=False)]
      >>> values(x), values(orthogonalize(x, num_iterations=3, max_block=64))
      (['5.26', '1.14'], ['0.72', '0.72'])
    """
    wide, restore = as_wide(x)
    num_rows = wide.shape[0]
    num_blocks = -(-num_rows // max_block)
    height = -(-num_rows // num_blocks)
    padded = jnp.pad(wide, ((0, num_blocks * height - num_rows), (0, 0)))
    blocks = padded.reshape(num_blocks, height, -1) * jax.lax.rsqrt(features.mean_square(wide) + _TINY)
    gram = blocks @ blocks.mT
    norm = jnp.sqrt(jnp.sum(jnp.square(gram), axis=(1, 2), keepdims=True) + _TINY)
    made = (newton_schulz(gram / norm, num_iterations) @ blocks) * jax.lax.rsqrt(norm)
    return restore(made.reshape(num_blocks * height, -1)[:num_rows])
