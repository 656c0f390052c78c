"""Fixed-point numbers that can be multiplied by a decay, and divided by it again, without losing a bit.

Maclaurin, Duvenaud, Adams 2015, "Gradient-based Hyperparameter Optimization through Reversible Learning",
https://arxiv.org/abs/1502.03492

A product with a decay n / d, d a power of two, drops digits of the number. They are kept in a buffer, which is an
integer for each number to which dropped digits are appended in base d and from which digits in base n are taken for the
product: about log2(d / n) bits stay in the buffer at each product. Deviations: when the integers may not have room for
another product they are pushed, all of them at once, as a row of words, at a step that depends on the decays alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Bool
    from jaxtyping import Float
    from jaxtyping import Float64
    from jaxtyping import Int32
    from jaxtyping import Int64

FRACTION_BITS = 52  # a number is an int64 over 2**52
DECAY_BITS = 16  # d is 2**16
LIMIT = 1024.0  # numbers must stay below it in absolute value; half of what the integers can hold
_ROOM = 2**47  # the integers of the buffer must be below it before a product
_D, _MASK = 2**DECAY_BITS, 2**DECAY_BITS - 1


class Buffer(NamedTuple):
    """What products with decays have dropped."""

    low: jax.Array  # int64[size], the integers being filled
    bound: jax.Array  # int64[], they cannot be larger
    words: jax.Array  # int64[rows, size], those that are full, in rows
    pushed_at: jax.Array  # int32[rows], the step at which each row was pushed
    count: jax.Array  # int32[], rows in use


def to_fixed(x: Float64[Array, "*shape"]) -> Int64[Array, "*shape"]:
    """The nearest integers to x * 2**52, for x below the limit."""
    return jnp.round(x * 2.0**FRACTION_BITS).astype(jnp.int64)


def to_float(integers: Int64[Array, "*shape"]) -> Float64[Array, "*shape"]:
    """The values of fixed-point numbers."""
    return integers.astype(jnp.float64) * 2.0**-FRACTION_BITS


def numerator(decay: Float[Array, ""]) -> Int64[Array, ""]:
    """The n, from 1 to d, of the decay n / d nearest to the given one."""
    return jnp.clip(jnp.round(decay * float(_D)), 1, _D).astype(jnp.int64)


def rows_needed(num_steps: int, min_decay: float) -> int:
    """Rows of full integers that num_steps products leave, if no decay is smaller than min_decay.

    Example: 2,000 steps with decay 0.9 fill six integers, and leave a seventh unfinished.
      >>> rows_needed(2000, 0.9)
      6
    """
    n, bound, count = max(1, int(min_decay * _D)), 0, 0
    for _ in range(num_steps):
        bound = (bound * _D + _MASK) // n
        if bound >= _ROOM:
            bound, count = 0, count + 1
    return count


def empty(size: int, rows: int) -> Buffer:
    """A buffer for `size` numbers with room for `rows` rows of full integers."""
    rows = max(1, rows)
    low, words, pushed_at = jnp.zeros(size, jnp.int64), jnp.zeros((rows, size), jnp.int64), jnp.zeros(rows, jnp.int32)
    return Buffer(low, jnp.zeros((), jnp.int64), words, pushed_at, jnp.zeros((), jnp.int32))


def multiply(
    integers: Int64[Array, " size"], buffer: Buffer, n: Int64[Array, ""]
) -> tuple[Int64[Array, " size"], Buffer]:
    """Multiplies numbers by n / d, up to n / 2**52. Make room in the buffer with `stow` before the next product.

    Args:
      integers: fixed-point numbers.
      buffer: takes what is dropped.
      n: from `numerator`.
    """
    low = (buffer.low << DECAY_BITS) + (integers & _MASK)
    bound = ((buffer.bound << DECAY_BITS) + _MASK) // n
    return (integers >> DECAY_BITS) * n + low % n, buffer._replace(low=low // n, bound=bound)


def divide(
    integers: Int64[Array, " size"], buffer: Buffer, n: Int64[Array, ""]
) -> tuple[Int64[Array, " size"], Buffer]:
    """Undoes the last `multiply`, by the same n, after `fetch` has undone its `stow`."""
    low = buffer.low * n + integers % n
    return ((integers // n) << DECAY_BITS) + (low & _MASK), buffer._replace(low=low >> DECAY_BITS)


def stow(buffer: Buffer, step: Int32[Array, ""], active: Bool[Array, ""]) -> Buffer:
    """Pushes the integers to the rows if they may be full.

    Args:
      buffer: the buffer after a product.
      step: the product's number, which no other product has.
      active: whether to do anything.
    """
    push = active & (buffer.bound >= _ROOM)
    row = jnp.minimum(buffer.count, buffer.words.shape[0] - 1)
    words = buffer.words.at[row].set(jnp.where(push, buffer.low, buffer.words[row]))
    pushed_at = buffer.pushed_at.at[row].set(jnp.where(push, step, buffer.pushed_at[row]))
    reset = lambda x: jnp.where(push, jnp.zeros_like(x), x)
    return Buffer(reset(buffer.low), reset(buffer.bound), words, pushed_at, buffer.count + push.astype(jnp.int32))


def fetch(buffer: Buffer, step: Int32[Array, ""], active: Bool[Array, ""]) -> Buffer:
    """Undoes the `stow` of that step, the last one that is not undone."""
    row = jnp.maximum(buffer.count - 1, 0)
    pop = active & (buffer.count > 0) & (buffer.pushed_at[row] == step)
    low = jnp.where(pop, buffer.words[row], buffer.low)
    return buffer._replace(low=low, count=buffer.count - pop.astype(jnp.int32))
