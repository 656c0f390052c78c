"""Blocks of a tensor against rows of its matrix in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from learned_optim import blocks

# Shape of a tensor, and of its blocks of up to 8 rows: wide and tall, with zeros at the end of the last block or of
# each, of several dimensions.
# Those whose blocks are parts of a dimension with all dimensions after it, those of (3, 3, 4, 40), which are not, and
# one of a single block.
SHAPES = {
    (5, 9): (1, 5, 9),
    (9, 5): (1, 9, 5),
    (16, 31): (2, 8, 31),
    (19, 31): (3, 8, 31),
    (17, 31): (3, 6, 31),
    (31, 19): (3, 31, 7),
    (2, 3, 4): (1, 2, 3, 4),
    (2, 3, 9): (1, 2, 3, 9),
    (3, 3, 4, 40): (5, 8, 40),
    (3, 4, 8, 100): (3, 4, 1, 8, 100),
    (3, 4, 4, 100): (3, 2, 2, 4, 100),
    (3, 4, 8, 19): (3, 3, 4, 8, 7),
}


def _normal(shape):
    return np.random.RandomState(0).standard_normal(shape)


def _wide(x, count, height):
    """The blocks of the wide matrix, [blocks, rows, columns]."""
    matrix = x.reshape(-1, x.shape[-1])
    matrix = matrix.T if len(matrix) > matrix.shape[1] else matrix
    filled = -(-len(matrix) // count)  # rows of a block
    made = np.pad(matrix, ((0, count * filled - len(matrix)), (0, 0))).reshape(count, filled, -1)
    return np.pad(made, ((0, 0), (0, height - filled), (0, 0)))


@pytest.mark.parametrize("transpose", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_are_those_of_the_matrix(shape, transpose):
    """Its Gram matrices, and the product with the transpose of a matrix and a number for each block."""
    x = _normal(shape)
    split = blocks.split(jnp.asarray(x, jnp.float32), 8, transpose=transpose)
    assert transpose or split.array.shape == SHAPES[shape]
    gram = blocks.gram(split)
    assert len(gram) == blocks.num_blocks(shape, 8)
    wide = _wide(x, *gram.shape[:2])
    np.testing.assert_allclose(gram, wide @ wide.mT, rtol=0, atol=1e-4)
    factors, scales = _normal(gram.shape), np.arange(1.0, len(gram) + 1)[:, None, None]
    product = scales * (factors.mT @ wide)
    filled = -(-min(shape[-1], x.size // shape[-1]) // len(gram))
    product = product[:, :filled].reshape(-1, wide.shape[-1])[: min(shape[-1], x.size // shape[-1])]
    expected = (product.T if blocks.is_tall(shape) else product).reshape(shape)
    made = blocks.multiply(jnp.asarray(factors, jnp.float32), split, jnp.asarray(scales, jnp.float32))
    np.testing.assert_allclose(made, expected, rtol=0, atol=1e-4)
    factors = factors * scales
    np.testing.assert_allclose(blocks.multiply(jnp.asarray(factors, jnp.float32), split), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_blocks_hold_every_coordinate_once_and_zeros(shape):
    x = 1.0 + np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    found = np.sort(np.asarray(blocks.split(jnp.asarray(x), 8).array).ravel())
    zeros = len(found) - x.size
    np.testing.assert_array_equal(found[zeros:], x.ravel())
    assert not found[:zeros].any()
