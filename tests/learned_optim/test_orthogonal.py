"""Orthogonalisation against Newton–Schulz iterations of the whole matrix, and against what it is for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_optim import orthogonal


def orthogonalize(x):
    return orthogonal.orthogonalize(x, num_iterations=3, max_block=64)


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
    for value in (x, partly):
        assert np.all(np.isfinite(jax.grad(lambda x: jnp.sum(orthogonalize(x) ** 2))(value)))


def test_the_cost_of_a_coordinate_is_bounded():
    """Sixteen times the coordinates cost at most about sixteen times as much: whole products would cost 64 times."""
    flops = lambda side: jax.jit(orthogonalize).lower(jnp.ones((side, side))).compile().cost_analysis()["flops"]
    assert flops(1024) < 17 * flops(256)
    assert flops(256) / 256**2 < 1000
