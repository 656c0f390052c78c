"""Orthogonalisation of matrices by Newton–Schulz iterations, as in Muon, in blocks and with products of small matrices.

Jordan, Jin, Boza, You, Cesista, Newhouse, Bernstein 2024, "Muon: An optimizer for hidden layers in neural networks",
https://kellerjordan.github.io/posts/muon
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from learned_optim import features

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, https://arxiv.org/abs/2502.16982
_TINY = 1e-24


def as_wide(x: jax.Array) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
    """A tensor as a matrix of its last dimension, transposed if it is tall, and what gives such a matrix x's shape."""
    matrix = x.reshape(-1, x.shape[-1])
    if matrix.shape[0] > matrix.shape[1]:
        return matrix.T, lambda wide: wide.T.reshape(x.shape)
    return matrix, lambda wide: wide.reshape(x.shape)


def newton_schulz(gram: jax.Array, num_iterations: int) -> jax.Array:
    """What the iterations A ← (a I + b G + c G²) A, with G = A Aᵀ, multiply A by in all: a polynomial of the first G.

    Args:
      gram: the first G, float32[..., rows, rows], with no eigenvalue above 1.
      num_iterations: at least 1.
    """
    a, b, c = COEFFICIENTS
    identity = jnp.broadcast_to(jnp.eye(gram.shape[-1], dtype=jnp.float32), gram.shape)
    total = None
    for number in range(num_iterations):
        factor = a * identity + b * gram + c * (gram @ gram)
        total = factor if number == 0 else factor @ total
        if number < num_iterations - 1:
            gram = factor @ gram @ factor
    return total


def orthogonalize(x: jax.Array, num_iterations: int, max_block: int) -> jax.Array:
    """Brings the singular values of a matrix near to one, and leaves its singular vectors as they are.

    The iterations begin at a size at which the Frobenius norm of A Aᵀ is 1: then no singular value is above 1, and most
    are closer to it than at a Frobenius norm of A of 1. Only the first and the last product are of the size of x.

    Args:
      x: float32[..., columns] of any scale; leading dimensions count as one.
      num_iterations: of Newton and Schulz. After three, singular values that were at least a thirtieth of the largest
        end between .65 and 1.25, and smaller ones grow some 25 times, measured by the largest.
      max_block: a shorter side above it is split evenly into blocks of at most so many rows, and each is orthogonalised
        by itself, so that the cost of a coordinate is bounded.

    Returns:
      The same shape. Zeros stay zeros.

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
