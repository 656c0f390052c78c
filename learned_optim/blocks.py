"""Blocks of rows of a tensor as a matrix: their Gram matrices, and products with a matrix for each block.

XLA gathers a tensor on every device to merge a sharded dimension with another. So the tensor keeps its dimensions where
blocks of rows are made of whole dimensions, and always if the longer side is that of the leading dimensions. Devices
then exchange Gram matrices at most, unless the rows of a block lie on several devices.
"""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import TYPE_CHECKING
from typing import NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float32

_FILLED = 7 / 8  # zeros fill up blocks of at least this share of the most rows: 64 rows take less time than 59
_LARGE = 2**21  # coordinates of a matrix whose blocks are multiplied in turn


def num_blocks(shape: Sequence[int], max_block: int) -> int:
    """How many blocks of rows a tensor of at least two dimensions has.

    Its columns are the last dimension, and its rows all others. The shorter side is split into blocks.

    Example:
      >>> num_blocks((3, 3, 8, 70), max_block=32), num_blocks((4, 2), max_block=32)
      (3, 1)
    """
    return -(-min(shape[-1], math.prod(shape[:-1])) // max_block)


class Blocks(NamedTuple):
    """A tensor, split into blocks of equal height along the shorter side. Zeros may fill up the last one, or each."""

    array: jax.Array  # float32[*blocks, *rows, *columns], or float32[blocks, *columns, rows]
    outer: tuple[int, ...]  # dimensions that number the blocks
    rows: tuple[int, ...]  # those that number the rows of a block, the shorter side
    columns: tuple[int, ...]  # all others, the longer side
    shape: tuple[int, ...]  # of the tensor


def is_tall(shape: Sequence[int]) -> bool:
    """Whether the last dimension of a tensor is shorter than all others together, so that it is split into blocks."""
    return math.prod(shape[:-1]) > shape[-1]


def split(x: Float32[Array, "*leading columns"], max_block: int, *, transpose: bool = False) -> Blocks:
    """Splits a tensor into blocks.

    Args:
      x: its last dimension is one side of the matrix, all others together are the other side.
      max_block: the largest number of rows in a block.
      transpose: whether blocks of a tall matrix are transposed, which on CPUs takes longer than a product. It changes
        the last digits of the products, nothing else.
    """
    count = num_blocks(x.shape, max_block)
    *leading, columns = x.shape
    dims = tuple(range(x.ndim + 1))
    if is_tall(x.shape):
        height = -(-columns // count)
        more = [(0, count * height - columns)]
        if transpose:
            padded = jnp.pad(jnp.moveaxis(x, -1, 0), more + [(0, 0)] * len(leading))
            return Blocks(padded.reshape(count, height, *leading), dims[:1], dims[1:2], dims[2:], x.shape)
        padded = jnp.pad(x, [(0, 0)] * len(leading) + more)
        array = jnp.moveaxis(padded.reshape(*leading, count, height), -2, 0)
        return Blocks(array, dims[:1], dims[-1:], dims[1:-1], x.shape)
    height = -(-math.prod(leading) // count)
    axis, part = _axis_of_blocks(leading, height)
    if part:
        array = x.reshape(*leading[:axis], leading[axis] // part, part, *leading[axis + 1 :], columns)
    else:
        axis, padded = 0, jnp.pad(x.reshape(-1, columns), ((0, count * height - math.prod(leading)), (0, 0)))
        array = padded.reshape(count, height, columns)
    if array.ndim == axis + 3 and max_block > height >= _FILLED * max_block:
        array = jnp.pad(array, [(0, 0)] * (axis + 1) + [(0, max_block - height), (0, 0)])
    dims = tuple(range(array.ndim))
    return Blocks(array, dims[: axis + 1], dims[axis + 1 : -1], dims[-1:], x.shape)


def gram(blocks: Blocks) -> Float32[Array, "blocks rows rows"]:
    """The products of each block with its transpose."""
    if _in_turn(blocks):
        return _grams_in_turn(blocks.array)
    dims = (blocks.columns, blocks.columns), (blocks.outer, blocks.outer)
    made = jax.lax.dot_general(blocks.array, blocks.array, dims)
    count, height = (math.prod(blocks.array.shape[i] for i in dims) for dims in (blocks.outer, blocks.rows))
    return made.reshape(count, height, height)


def multiply(
    factors: Float32[Array, "blocks rows rows"], blocks: Blocks, scales: Float32[Array, "blocks 1 1"] | None = None
) -> Float32[Array, "*leading columns"]:
    """The product of a matrix's transpose with each block, from the left, and with a number, in the tensor's shape.

    A product with the transpose, which contracts the first dimension, is faster on CPUs: for the other one XLA packs a
    copy of the tensor.
    """
    outer, rows = (tuple(blocks.array.shape[i] for i in dims) for dims in (blocks.outer, blocks.rows))
    factors = factors.reshape(*outer, *rows, *rows)
    of_factors = tuple(range(len(outer), len(outer) + len(rows)))
    rows_last = blocks.rows > blocks.columns
    if _in_turn(blocks):
        made = _products_in_turn(factors, blocks.array)
    elif rows_last:
        made = jax.lax.dot_general(blocks.array, factors, ((blocks.rows, of_factors), (blocks.outer, blocks.outer)))
    else:
        made = jax.lax.dot_general(factors, blocks.array, ((of_factors, blocks.rows), (blocks.outer, blocks.outer)))
    if scales is not None:
        made = made * scales.reshape(*outer, *[1] * (made.ndim - len(outer)))
    *leading, columns = blocks.shape
    if rows_last:
        return jnp.moveaxis(made, 0, -2).reshape(*leading, -1)[..., :columns]
    if is_tall(blocks.shape):
        return jnp.moveaxis(made.reshape(-1, *leading)[:columns], 0, -1)
    num_rows, count = math.prod(leading), math.prod(outer)
    height = -(-num_rows // count)
    if math.prod(rows) > height:
        made = jax.lax.slice_in_dim(made, 0, height, axis=len(outer))
    if made.size == math.prod(blocks.shape):
        return made.reshape(blocks.shape)
    return made.reshape(-1, columns)[:num_rows].reshape(blocks.shape)


def _in_turn(blocks):
    """Whether one block is multiplied after the other: those of a large wide matrix, where nothing is sharded.

    XLA on CPUs packs a copy of all blocks that it multiplies together. That of a large matrix does not fit into caches,
    and every update gets its memory anew from the operating system.
    """
    alone = jax.device_count() == 1 and jax.default_backend() == "cpu"
    return alone and blocks.rows == (1,) and blocks.array.ndim == 3 and blocks.array.size >= _LARGE


def _grams_in_turn(array):
    def gram_of(i):
        block = jax.lax.dynamic_index_in_dim(array, i, keepdims=False)
        return jax.lax.dot_general(block, block, (((1,), (1,)), ((), ())))

    return jax.lax.map(gram_of, jnp.arange(len(array)))


def _products_in_turn(factors, array):
    """The product of each matrix's transpose with its block, in the memory of the blocks."""

    def body(array, i):
        factor, block = (jax.lax.dynamic_index_in_dim(x, i, keepdims=False) for x in (factors, array))
        made = jax.lax.dot_general(factor, block, (((0,), (0,)), ((), ())))
        return jax.lax.dynamic_update_index_in_dim(array, made, i, 0), None

    return jax.lax.scan(body, array, jnp.arange(len(array)))[0]


def _axis_of_blocks(leading, height):
    """Which of the leading dimensions to split into parts, such that a part with the dimensions after it is a block.

    Returns (axis, length of a part), or (0, 0) if there is none.
    """
    inner = 1
    for axis in reversed(range(len(leading))):
        part = height // inner
        if part * inner == height and part and leading[axis] % part == 0:
            return axis, part
        inner *= leading[axis]
    return 0, 0
