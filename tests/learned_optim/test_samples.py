"""Samples of tensors: which coordinates they hold, that they represent the tensor, and their mean squares."""

import math
import pathlib
import runpy
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_optim import samples

_REFERENCE = pathlib.Path(__file__).parents[1] / "reference"
parts = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "control_parts.py")))

SHAPES = [(), (3,), (2048,), (32, 64), (2049,), (300, 300), (90, 70), (2, 3, 5000), (3, 3, 16, 32), (46, 45)]


def _grid(*shape):
    """Each coordinate of a tensor by its number."""
    return np.arange(math.prod(shape), dtype=np.float32).reshape(shape)


def _one(x):
    """The sample of one tensor."""
    (row,) = samples.take([jnp.asarray(x)])
    return row


def test_rows_are_regular_grids_with_zeros_at_their_ends():
    xs = [1.0 + _grid(*shape) for shape in SHAPES]
    rows, expected = samples.take([jnp.asarray(x) for x in xs]), [parts.sample(x) for x in xs]
    np.testing.assert_array_equal(samples.sizes(xs), [len(sample) for sample in expected])
    assert rows.shape == (len(xs), max(map(len, expected)))
    for row, sample in zip(rows, expected, strict=True):
        np.testing.assert_array_equal(row, np.pad(sample, (0, rows.shape[1] - len(sample))))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_samples_are_small_and_not_much_smaller_than_they_may_be(shape):
    x = _grid(*shape)
    assert min(x.size, 2048 / 3) <= len(_one(x)) <= 2048
    assert len(set(_one(x).tolist())) == len(_one(x))


def test_strides():
    """Of the longest side first; tensors of up to 2,048 coordinates are taken whole."""
    known = {(): (), (2048,): (1,), (2049,): (3,), (300, 300): (9, 9), (2, 5000): (1, 9), (3, 3, 16, 32): (1, 1, 1, 3)}
    assert {shape: samples.strides(shape) for shape in known} == known
    np.testing.assert_array_equal(_one(_grid(300, 300)), _grid(300, 300)[::9, ::9].ravel())
    np.testing.assert_array_equal(_one(_grid(2, 5000)), _grid(2, 5000)[:, ::9].ravel())


@pytest.mark.parametrize("period", [2, 4, 8, 64])
def test_the_sample_meets_every_part_of_a_side_alike(period):
    """Coordinates that take turns, as those of attention heads do."""
    turns = np.arange(60_000) % period
    counts = np.bincount(np.asarray(_one(turns), int), minlength=period)
    assert np.min(counts) > 0.9 * np.mean(counts)


@pytest.mark.parametrize("shape", [(2**32,), (2**16, 2**16), (2**40, 1, 3), (0, 5), (7, 0)])
def test_the_sample_of_any_shape_is_small(shape):
    """Also of more coordinates than memory holds: the strides follow from the shape alone."""
    made = jax.eval_shape(samples.take, [jax.ShapeDtypeStruct(shape, jnp.float32)])
    assert made.shape == (1, *samples.sizes([jax.ShapeDtypeStruct(shape, jnp.float32)]))
    assert made.size <= 2048
    assert made.size > 2048 / 3 or math.prod(shape) == 0


def test_no_tensors_give_no_rows():
    assert samples.take([]).shape == (0, 0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_rows_are_float32(dtype):
    made = samples.take([jnp.ones((2, 3), dtype), jnp.ones(2)])
    assert made.dtype == jnp.float32
    np.testing.assert_array_equal(made, [[1] * 6, [1, 1, 0, 0, 0, 0]])


def test_mean_squares_are_those_of_the_samples():
    """Zeros at the ends of rows do not count, and neither do coordinates beside the grid."""
    random = np.random.RandomState(0)
    xs = [scale * random.standard_normal(shape) for scale, shape in zip(range(1, 11), SHAPES, strict=True)]
    rows = samples.take([jnp.asarray(x, jnp.float32) for x in xs])
    expected = [np.mean(parts.sample(x) ** 2) for x in xs]
    np.testing.assert_allclose(samples.mean_squares(rows, samples.sizes(xs)), expected, rtol=1e-5)


def test_mean_squares_are_finite():
    made = samples.mean_squares(jnp.asarray([[1e30, 0.0], [3.0, 4.0], [0.0, 0.0]]), np.array([1, 2, 1]))
    np.testing.assert_allclose(made, [1e37, 12.5, 0.0], rtol=1e-6)


def test_statistics_of_large_tensors_are_close_to_those_of_all_coordinates():
    x = np.random.RandomState(1).standard_normal((400, 500)) * np.linspace(0.1, 3.0, 500)
    made = samples.mean_squares(samples.take([jnp.asarray(x, jnp.float32)]), samples.sizes([x]))
    np.testing.assert_allclose(made, [np.mean(x**2)], rtol=0.1)
