"""Orthogonalization against Newton–Schulz iterations of the whole matrix, and against what it is for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_optim import orthogonal


@functools.partial(jax.jit, static_argnames="max_block")
def orthogonalize(x, max_block=64):
    return orthogonal.orthogonalize(x, num_iterations=3, max_block=max_block)


def _normal(seed, *shape):
    return np.random.RandomState(seed).standard_normal(shape)


def _singular_values(x):
    return np.linalg.svd(np.reshape(x, (-1, x.shape[-1])), compute_uv=False)


def _iterate(x):
    """Three quintic iterations of a wide matrix in float64. Fourth powers of singular values first add up to 1."""
    x = x / np.sum(np.linalg.svd(x, compute_uv=False) ** 4) ** 0.25
    for _ in range(3):
        x = 3.4445 * x - 4.7750 * x @ x.T @ x + 2.0315 * x @ x.T @ x @ x.T @ x
    return x


@pytest.mark.parametrize("shape", [(3, 5), (6, 6), (1, 4), (60, 64)])
def test_it_equals_the_iterations_of_the_whole_matrix(shape):
    x = _normal(0, *shape)
    np.testing.assert_allclose(orthogonalize(jnp.asarray(x, jnp.float32)), _iterate(x), rtol=0, atol=2e-4)


def test_tall_matrices_are_the_transpose_of_wide_ones():
    x = jnp.asarray(_normal(1, 3, 7), jnp.float32)
    np.testing.assert_allclose(orthogonalize(x.T), orthogonalize(x).T, rtol=0, atol=1e-6)


def test_leading_dimensions_count_as_one():
    x = jnp.asarray(_normal(2, 3, 2, 5, 4), jnp.float32)
    flat = orthogonalize(x.reshape(30, 4))
    np.testing.assert_allclose(orthogonalize(x).reshape(30, 4), flat, rtol=0, atol=1e-6)


def test_blocks_are_orthogonalized_independently():
    """130 rows make three blocks of 44, of which the last has two rows of zeros."""
    x = _normal(3, 130, 150)
    expected = np.concatenate([_iterate(x[start : start + 44]) for start in (0, 44, 88)])
    made = orthogonalize(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(made, expected, rtol=0, atol=2e-4)
    np.testing.assert_allclose(orthogonalize(jnp.asarray(x.T, jnp.float32)), expected.T, rtol=0, atol=2e-4)


@pytest.mark.parametrize("ratio", [2.0, 30.0])
def test_singular_values_end_near_one_and_singular_vectors_stay(ratio):
    left, right = np.linalg.qr(_normal(4, 16, 16))[0], np.linalg.qr(_normal(5, 40, 16))[0]
    values = np.geomspace(1.0, 1.0 / ratio, 16)
    made = np.asarray(orthogonalize(jnp.asarray((left * values) @ right.T, jnp.float32)))
    assert np.all((_singular_values(made) > 0.65) & (_singular_values(made) < 1.25))
    inner = left.T @ made @ right
    np.testing.assert_allclose(inner, np.diag(np.diag(inner)), atol=1e-4)


@pytest.mark.parametrize("scale", [1e-9, 1e12])
def test_the_scale_does_not_matter(scale):
    x = jnp.asarray(_normal(6, 4, 6), jnp.float32)
    np.testing.assert_allclose(orthogonalize(scale * x), orthogonalize(x), rtol=0, atol=1e-5)


def test_zeros_stay_zeros_with_finite_derivatives():
    x = jnp.zeros((3, 4))
    np.testing.assert_array_equal(orthogonalize(x), x)
    partly = jnp.asarray(_normal(7, 3, 4), jnp.float32).at[0].set(0.0).at[:, 1].set(0.0)
    made = np.asarray(orthogonalize(partly))
    assert not made[0].any() and not made[:, 1].any() and made[1:, 2:].any()
    derivative = jax.jit(jax.grad(lambda x: jnp.sum(orthogonalize(x) ** 2)))
    for value in (x, partly):
        assert np.all(np.isfinite(derivative(value)))


def test_the_cost_of_a_coordinate_is_bounded():
    """Sixteen times the coordinates cost at most about sixteen times as much: whole products would cost 64 times."""
    flops = lambda side: orthogonalize.lower(jnp.ones((side, side))).compile().cost_analysis()["flops"]
    assert flops(1024) < 17 * flops(256)
    assert flops(256) / 256**2 < 1000


# Matrices of one block, of several, with and without rows of zeros at the end, wide and tall, and a kernel. Blocks of
# up to 8 rows have heights from 1 to 8; those of (7, 19) and of (19, 31) have 7.
SHAPES = [(3, 5), (7, 19), (19, 31), (40, 19), (2, 3, 2, 4), (3, 9), (1, 4), (16, 16), (6, 1)]


def _rms(x):
    return np.sqrt(np.mean(np.square(x)))


def _many(scale=1.0):
    """Matrices of scales far apart."""
    return [scale * 4.0**i * jnp.asarray(_normal(i, *shape), jnp.float32) for i, shape in enumerate(SHAPES)]


@functools.partial(jax.jit, static_argnames="max_block")
def _all(xs, max_block=8):
    return orthogonal.orthogonalize_all(xs, num_iterations=3, max_block=max_block)


@pytest.mark.parametrize("max_block", [1, 8, 64])
def test_all_matrices_are_orthogonalized_as_each_by_itself_and_keep_their_root_mean_square(max_block):
    xs = _many()
    for x, made in zip(xs, _all(xs, max_block), strict=True):
        alone = orthogonalize(x, max_block)
        assert made.shape == x.shape
        np.testing.assert_allclose(_rms(made), _rms(x), rtol=1e-5)
        np.testing.assert_allclose(made, alone * (_rms(x) / _rms(alone)), rtol=0, atol=1e-4 * _rms(x))


def test_all_blocks_equal_the_iterations():
    """19 rows make three blocks of 7, of which the last has two rows of zeros. Another matrix lies beside them."""
    wide, tall = _normal(3, 19, 31), _normal(4, 23, 7)
    expected = np.concatenate([_iterate(wide[start : start + 7]) for start in (0, 7, 14)]), _iterate(tall.T).T
    made = _all([jnp.asarray(x, jnp.float32) for x in (wide, tall)], 7)
    for x, have, want in zip((wide, tall), made, expected, strict=True):
        np.testing.assert_allclose(have, want * (_rms(x) / _rms(want)), rtol=0, atol=2e-4)


@pytest.mark.parametrize("scale", [2.0**-30, 2.0**40])
def test_the_scale_of_all_changes_their_scale_alone(scale):
    for made, plain in zip(_all(_many(scale)), _all(_many()), strict=True):
        np.testing.assert_allclose(made / scale, plain, rtol=0, atol=1e-5 * _rms(plain))


def test_zeros_among_all_stay_zeros_with_finite_derivatives():
    """A matrix of zeros, a block of zeros, a row and a column of zeros; the matrix beside them does not change."""
    partly = jnp.asarray(_normal(7, 16, 20), jnp.float32).at[:8].set(0.0).at[9].set(0.0).at[:, 1].set(0.0)
    xs = [jnp.zeros((3, 4)), partly, jnp.asarray(_normal(8, 3, 4), jnp.float32), jnp.zeros((8, 9))]
    made = _all(xs)
    np.testing.assert_array_equal(made[0], xs[0])
    np.testing.assert_array_equal(made[3], xs[3])
    np.testing.assert_array_equal(made[1] == 0, partly == 0)
    np.testing.assert_allclose(made[2], _all([xs[2]])[0], rtol=1e-6)
    total = lambda xs: sum(jnp.sum(weight * x**3 + x) for weight, x in enumerate(_all(xs)))
    assert all(np.all(np.isfinite(x)) for x in jax.jit(jax.grad(total))(xs))


def test_derivatives_of_all_equal_differences():
    xs, others = _many()[:4], [jnp.asarray(_normal(20 + i, *shape), jnp.float32) for i, shape in enumerate(SHAPES[:4])]
    total = lambda xs: sum(jnp.sum(x * other) for x, other in zip(_all(xs), others, strict=True))
    along = [_rms(x) * jnp.asarray(_normal(40 + i, *x.shape), jnp.float32) for i, x in enumerate(xs)]
    slope = sum(jnp.sum(a * d) for a, d in zip(jax.jit(jax.grad(total))(xs), along, strict=True))
    moved = jax.jit(lambda step: total([x + step * d for x, d in zip(xs, along, strict=True)]))
    np.testing.assert_allclose(slope, (moved(1e-2) - moved(-1e-2)) / 2e-2, rtol=2e-2)


def test_of_no_matrices_there_are_none():
    assert orthogonal.orthogonalize_all([], num_iterations=3, max_block=8) == []


def test_the_iterations_are_made_once_for_each_shape():
    """The products of the iterations, eight for each shape, do not grow with the number of matrices; two do."""
    orthogonalize_all = lambda xs: orthogonal.orthogonalize_all(xs, num_iterations=3, max_block=8)
    products = lambda xs: str(jax.make_jaxpr(orthogonalize_all)(xs)).count("dot_general")
    one = products([jnp.ones((8, 9))])
    assert products([jnp.ones((8, 9))] * 4) == one + 3 * 2
    assert products([jnp.ones((8, 9)), jnp.ones((5, 9))]) == 2 * one


def test_the_place_of_a_matrix_among_others_is_data():
    """A slice, which starts at another place for each matrix, would make XLA compile a kernel for each."""
    orthogonalize_all = lambda xs: orthogonal.orthogonalize_all(xs, num_iterations=3, max_block=8)
    program = str(jax.make_jaxpr(orthogonalize_all)([jnp.ones((16, 24))] * 3))
    assert program.count("= gather[") == 3
    assert "slice[" not in program
