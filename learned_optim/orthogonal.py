"""Orthogonalization of matrices by Newton–Schulz iterations, as in Muon.

Jordan, Jin, Boza, You, Cesista, Newhouse, Bernstein 2024, "Muon: An optimizer for hidden layers in neural networks",
https://kellerjordan.github.io/posts/muon

Deviations: large matrices are split into blocks, and the iterations work on the Gram matrices of blocks. If a matrix is
sharded over several devices, they exchange only these small matrices, see `learned_optim.blocks`.
"""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from learned_optim import blocks
from learned_optim import features

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float32

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, https://arxiv.org/abs/2502.16982
_TINY = 1e-24


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
    # The mean and the products of the wide matrix: released optimizers keep their last digits.
    wide = jnp.moveaxis(x, -1, 0) if blocks.is_tall(x.shape) else x
    split = blocks.split(x * jax.lax.rsqrt(features.mean_square(wide) + _TINY), max_block, transpose=True)
    gram = blocks.gram(split)
    norm = jnp.sqrt(jnp.sum(jnp.square(gram), axis=(1, 2), keepdims=True) + _TINY)
    return blocks.multiply(newton_schulz(gram / norm, num_iterations).mT, split, jax.lax.rsqrt(norm))


def orthogonalize_all(xs: Sequence[jax.Array], num_iterations: int, max_block: int) -> list[jax.Array]:
    """Orthogonalizes several matrices, and scales each result to the root mean square of its matrix.

    The iterations of all matrices of one shape are made together. So the compiled program does not grow with the number
    of matrices, but for the two products of each, which share a kernel. Matrices of one shape are usually sharded
    alike, so that devices need not exchange Gram matrices to put them together.

    Args:
      xs: as `x` of `orthogonalize`, each of its own shape.
      num_iterations, max_block: as for `orthogonalize`.

    Returns:
      Arrays of the shapes of xs. Zeros stay zeros.

    Example:
      >>> import jax.numpy as jnp
      >>> (x,) = orthogonalize_all([jnp.array([[3.0, 4.0], [0.0, 2.0]])], num_iterations=3, max_block=64)
      >>> print(jnp.linalg.svd(x, compute_uv=False).round(1), jnp.sqrt(jnp.mean(x**2)).round(1))
      [3.8 3.8] 2.7
    """
    splits = [blocks.split(x, max_block) for x in xs]
    made = {}
    for shape in dict.fromkeys(x.shape for x in xs):
        chosen = [i for i, x in enumerate(xs) if x.shape == shape]
        size = float(math.prod(shape))
        gram = jnp.stack([blocks.gram(splits[i]) for i in chosen])  # [matrices, blocks, rows, rows]
        inverse = jax.lax.rsqrt(jnp.sum(jnp.trace(gram, axis1=2, axis2=3), axis=1) / size + _TINY)[:, None, None, None]
        gram = (gram * inverse) * inverse  # of matrices of mean square 1
        inverse = jax.lax.rsqrt(jnp.sum(jnp.square(gram), axis=(2, 3), keepdims=True) + _TINY)
        gram = gram * inverse  # of Frobenius norm 1
        factor = newton_schulz(gram, num_iterations)
        squares = jnp.sum((factor @ gram) * factor, axis=(1, 2, 3))  # of the Frobenius norm of each result
        factor = factor * jnp.sqrt(inverse / (squares / size + 1e-12)[:, None, None, None])
        rows = np.arange(factor.shape[-1])
        for number, i in enumerate(chosen):
            # Several indices in an array, instead of one, let XLA compile one kernel for all matrices of a shape.
            own = factor[np.full_like(rows, number), :, :, rows]  # [rows, blocks, rows], transposed
            made[i] = blocks.multiply(own.swapaxes(0, 1), splits[i])
    return [made[i] for i in range(len(xs))]
