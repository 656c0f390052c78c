"""Blocks of a tensor against rows of its matrix in NumPy."""

import functools

import jax
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
    split = functools.partial(blocks.split, max_block=8, transpose=transpose)
    assert transpose or jax.eval_shape(lambda x: split(x).array, x).shape == SHAPES[shape]
    gram = jax.jit(lambda x: blocks.gram(split(x)))(np.float32(x))
    assert len(gram) == blocks.num_blocks(shape, 8)
    wide = _wide(x, *gram.shape[:2])
    np.testing.assert_allclose(gram, wide @ wide.mT, rtol=0, atol=1e-4)
    factors, scales = _normal(gram.shape), np.arange(1.0, len(gram) + 1)[:, None, None]
    product = scales * (factors.mT @ wide)
    filled = -(-min(shape[-1], x.size // shape[-1]) // len(gram))
    product = product[:, :filled].reshape(-1, wide.shape[-1])[: min(shape[-1], x.size // shape[-1])]
    expected = (product.T if blocks.is_tall(shape) else product).reshape(shape)

    @jax.jit
    def multiply(x, factors, scales):
        return blocks.multiply(factors, split(x), scales), blocks.multiply(factors * scales, split(x))

    for made in multiply(np.float32(x), np.float32(factors), np.float32(scales)):
        np.testing.assert_allclose(made, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_blocks_hold_every_coordinate_once_and_zeros(shape):
    x = 1.0 + np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    found = np.sort(np.asarray(blocks.split(jnp.asarray(x), 8).array).ravel())
    zeros = len(found) - x.size
    np.testing.assert_array_equal(found[zeros:], x.ravel())
    assert not found[:zeros].any()


@pytest.fixture
def in_turn(monkeypatch):
    """A process with one device, where every wide matrix is large."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(blocks, "_LARGE", 0)


def _product_with_gram(x):
    split = blocks.split(x, 8, transpose=True)
    return blocks.multiply(jnp.tanh(blocks.gram(split)), split)


def _loops(x):
    return str(jax.make_jaxpr(_product_with_gram)(x)).count("scan[")


@pytest.mark.parametrize("shape", [(19, 31), (31, 19), (3, 3, 4, 40), (3, 4, 8, 100), (3, 4, 8, 19)], ids=str)
def test_blocks_in_turn_equal_blocks_together(shape, request):
    """Also vectorized, differentiated, and inside `jax.shard_map`."""
    x = jnp.asarray(_normal((2, *shape)), jnp.float32)
    mesh = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    ways = {
        "plain": lambda x: _product_with_gram(x[0]),
        "vectorized": jax.vmap(_product_with_gram),
        "differentiated": jax.grad(lambda x: jnp.sum(jnp.sin(_product_with_gram(x[0])))),
        "sharded": jax.shard_map(
            lambda x: _product_with_gram(x[0])[None], mesh=mesh, in_specs=jax.P("i"), out_specs=jax.P("i")
        ),
    }
    run = lambda x: {name: way(x) for name, way in ways.items()}
    together = jax.jit(run)(x)
    assert not _loops(x[0])
    request.getfixturevalue("in_turn")
    jax.clear_caches()
    assert _loops(x[0]) == (2 if shape in {(19, 31), (31, 19), (3, 3, 4, 40)} else 0)
    for name, made in jax.jit(run)(x).items():
        np.testing.assert_allclose(made, together[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_blocks_of_a_large_matrix_take_no_memory_but_their_own(in_turn):
    x = jax.ShapeDtypeStruct((256, 2048), jnp.float32)
    memory = jax.jit(lambda x: _product_with_gram(jnp.tanh(x))).lower(x).compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 0.1 * x.size * 4
