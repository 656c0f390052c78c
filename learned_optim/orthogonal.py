"""Orthogonalisation of matrices by Newton–Schulz iterations, as in Muon, in blocks and with products of small matrices.

Jordan, Jin, Boza, You, Cesista, Newhouse, Bernstein 2024, "Muon: An optimizer for hidden layers in neural networks",
https://kellerjordan.github.io/posts/muon
"""

import jax
import jax.numpy as jnp

from learned_optim import features

MAX_BLOCK = 64  # rows that are orthogonalised together
NUM_ITERATIONS = 3
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, https://arxiv.org/abs/2502.16982
_TINY = 1e-24


def orthogonalize(x: jax.Array) -> jax.Array:
    """Brings the singular values of a matrix near to one, and leaves its singular vectors as they are.

    With A the matrix, transposed if it is tall, each iteration is A ← (a I + b G + c G²) A, where G = A Aᵀ. All of them
    are polynomials of the first G, so the products are of G's small size but the first and the last one. A begins at a
    size at which the Frobenius norm of G is 1: then no singular value is above 1, and most are closer to it than at a
    Frobenius norm of A of 1.

    Args:
      x: float32[..., columns] of any scale; leading dimensions count as one.

    Returns:
      The same shape. Singular values that were at least a thirtieth of the largest end between .65 and 1.25; smaller
      ones grow some 25 times, measured by the largest. A shorter side of more than `MAX_BLOCK` is split evenly
      into blocks, and each is orthogonalised by itself, so that the cost of a coordinate is bounded: at most 1,000
      operations, and 300 if the longer side is much longer. Zeros stay zeros.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> x = jnp.array([[3.0, 4.0], [0.0, 2.0]])
      >>> values = lambda x: jnp.linalg.svd(x, compute_uv=False).round(2).tolist()
      >>> [f"{value:.2f}" for value in values(x)], [f"{value:.2f}" for value in values(orthogonalize(x))]
      (['5.26', '1.14'], ['0.72', '0.72'])
    """
    matrix = x.reshape(-1, x.shape[-1])
    is_tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if is_tall else matrix
    num_rows = wide.shape[0]
    num_blocks = -(-num_rows // MAX_BLOCK)
    height = -(-num_rows // num_blocks)
    padded = jnp.pad(wide, ((0, num_blocks * height - num_rows), (0, 0)))
    blocks = padded.reshape(num_blocks, height, -1) * jax.lax.rsqrt(features.mean_square(wide) + _TINY)
    gram = blocks @ blocks.mT
    norm = jnp.sqrt(jnp.sum(jnp.square(gram), axis=(1, 2), keepdims=True) + _TINY)
    polynomial = _polynomial(gram / norm)
    made = (polynomial @ blocks) * jax.lax.rsqrt(norm)
    made = made.reshape(num_blocks * height, -1)[:num_rows]
    return (made.T if is_tall else made).reshape(x.shape)


def _polynomial(gram):
    """What the iterations multiply A by, given A Aᵀ: float32[blocks, rows, rows]."""
    a, b, c = COEFFICIENTS
    identity = jnp.eye(gram.shape[-1], dtype=jnp.float32)
    total = None
    for number in range(NUM_ITERATIONS):
        factor = a * identity + b * gram + c * (gram @ gram)
        total = factor if number == 0 else factor @ total
        if number < NUM_ITERATIONS - 1:
            gram = factor @ gram @ factor
    return total
