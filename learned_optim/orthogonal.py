"""Orthogonalization of matrices by Newton–Schulz iterations, as in Muon.

Jordan, Jin, Boza, You, Cesista, Newhouse, Bernstein 2024, "Muon: An optimizer for hidden layers in neural networks",
https://kellerjordan.github.io/posts/muon

Deviations: large matrices are split into blocks, and the iterations work on the Gram matrices of blocks. If a matrix is
sharded over several devices, they exchange only these small matrices.
"""

from __future__ import annotations

from collections.abc import Callable
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
    blocks, restore = in_blocks(x, max_block)
    # The mean of the wide matrix: that of x is summed in another order, and released optimizers keep their last digits.
    blocks = blocks * jax.lax.rsqrt(features.mean_square(as_wide(x)[0]) + _TINY)
    gram = blocks @ blocks.mT
    norm = jnp.sqrt(jnp.sum(jnp.square(gram), axis=(1, 2), keepdims=True) + _TINY)
    return restore((newton_schulz(gram / norm, num_iterations) @ blocks) * jax.lax.rsqrt(norm))


def orthogonalize_all(xs: Sequence[jax.Array], num_iterations: int, max_block: int) -> list[jax.Array]:
    """Orthogonalizes several matrices, and scales each result to the root mean square of its matrix.

    The iterations of all blocks that have the same number of rows are made together. So the compiled program does not
    grow with the number of matrices, but for the two products of each, which matrices of one shape share.

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
    grams, products = zip(*[_gram_and_product(x, max_block) for x in xs], strict=True) if xs else ((), ())
    made = {}
    for height in sorted({gram.shape[-1] for gram in grams}):
        chosen = [i for i, gram in enumerate(grams) if gram.shape[-1] == height]
        counts = np.array([len(grams[i]) for i in chosen])
        sizes = np.array([xs[i].size for i in chosen], np.float32)
        for_blocks = lambda x, counts=counts: x[np.repeat(np.arange(len(counts)), counts)][:, None, None]
        gram = jnp.concatenate([grams[i] for i in chosen])
        mean_squares = _sums(jnp.trace(gram, axis1=1, axis2=2), counts) / sizes
        gram = features.ratio(gram, for_blocks(mean_squares + _TINY))
        norm = jnp.sqrt(jnp.sum(jnp.square(gram), axis=(1, 2), keepdims=True) + _TINY)
        gram = gram / norm
        factor = newton_schulz(gram, num_iterations)
        squares = jnp.sum((factor @ gram) * factor, axis=(1, 2))  # of the Frobenius norm of each orthogonalized block
        scale = jax.lax.rsqrt(_sums(squares, counts) / sizes + 1e-12)
        rows = (factor * (jax.lax.rsqrt(norm) * for_blocks(scale))).reshape(-1, height)
        ends = height * np.cumsum(counts)
        for i, count, end in zip(chosen, counts, ends, strict=True):
            # Indices in an array, instead of a slice, let XLA compile one kernel for all matrices of a shape.
            own = rows[np.arange(end - height * count, end)]
            made[i] = products[i](own.reshape(count, height, height))
    return [made[i] for i in range(len(xs))]


def _gram_and_product(x, max_block):
    """Returns A Aᵀ of each block A of rows of a wide matrix, and a function that gives all P A the shape of x.

    P is symmetric. Blocks of columns of a tall matrix are not transposed: on CPUs that takes longer than a product.
    """
    matrix = x.reshape(-1, x.shape[-1])
    if matrix.shape[0] <= matrix.shape[1]:
        blocks, restore = in_blocks(x, max_block)
        return blocks @ blocks.mT, lambda factor: restore(factor @ blocks)
    num_columns, count = matrix.shape[1], num_blocks(x.shape, max_block)
    height = -(-num_columns // count)
    padded = jnp.pad(matrix, ((0, 0), (0, count * height - num_columns)))
    blocks = padded.reshape(-1, count, height).swapaxes(0, 1)  # [blocks, longer side, columns]

    def product(factor):
        made = (blocks @ factor).swapaxes(0, 1).reshape(-1, count * height)
        return made[:, :num_columns].reshape(x.shape)

    return blocks.mT @ blocks, product


def _sums(x, counts):
    """The sum of the first counts[0] numbers, that of the next counts[1], and so on."""
    index = np.arange(np.max(counts)) + (np.cumsum(counts) - counts)[:, None]
    inside = np.arange(np.max(counts)) < counts[:, None]
    return jnp.sum(jnp.where(inside, x[np.where(inside, index, 0)], 0.0), axis=1)


def in_blocks(x: jax.Array, max_block: int) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
    """Splits a tensor, as a wide matrix, into blocks of rows of equal height; the last one is filled up with zeros.

    Args:
      x: float32[..., columns].
      max_block: the largest number of rows in a block.

    Returns:
      The blocks, float32[blocks, rows, longer side], and the function that gives such an array the shape of x.
    """
    wide, restore = as_wide(x)
    num_rows, count = wide.shape[0], num_blocks(x.shape, max_block)
    height = -(-num_rows // count)
    padded = jnp.pad(wide, ((0, count * height - num_rows), (0, 0)))
    blocks = padded.reshape(count, height, -1)
    return blocks, lambda blocks: restore(blocks.reshape(count * height, -1)[:num_rows])


def num_blocks(shape: Sequence[int], max_block: int) -> int:
    """How many blocks `in_blocks` makes of a tensor of at least two dimensions.

    Example:
      >>> num_blocks((3, 3, 8, 70), max_block=32), num_blocks((4, 2), max_block=32)
      (3, 1)
    """
    return -(-min(shape[-1], math.prod(shape[:-1])) // max_block)
