"""Turned pictures, and the angle that is learned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.problems import rotate

PICTURES = np.random.default_rng(0).normal(size=(2, 4, 4, 3))


@pytest.mark.parametrize("quarters", [-1, 0, 1, 2])
def test_quarters_are_those_of_numpy(quarters):
    with jax.enable_x64(True):
        found = rotate(jnp.asarray(PICTURES), quarters * np.pi / 2)
        np.testing.assert_allclose(found, np.rot90(PICTURES, quarters, axes=(1, 2)), atol=1e-12)


def test_there_and_back_leaves_a_plane_as_it_is_around_the_centre():
    """Bilinear interpolation is exact on planes; beyond the border there are zeros."""
    down, right = np.mgrid[:9, :9] - 4.0
    plane = (2 * right - down)[None, :, :, None]
    angle = np.deg2rad(30)
    with jax.enable_x64(True):
        turned = np.asarray(rotate(jnp.asarray(plane), angle))[0, 2:7, 2:7, 0]
    right, down = np.cos(angle) * right - np.sin(angle) * down, np.sin(angle) * right + np.cos(angle) * down
    np.testing.assert_allclose(turned, (2 * right - down)[2:7, 2:7], atol=1e-12)


def test_the_derivative_by_the_angle_is_that_of_differences():
    with jax.enable_x64(True):
        value = lambda angle: jnp.sum(rotate(jnp.asarray(PICTURES), angle)[0] * PICTURES[1])
        slope = (value(0.3 + 1e-6) - value(0.3 - 1e-6)) / 2e-6
        np.testing.assert_allclose(jax.grad(value)(0.3), slope, rtol=1e-8)


def test_it_needs_pictures():
    with pytest.raises(ValueError, match=r"rotate needs pictures, .* got \(2, 16\)"):
        rotate(jnp.zeros((2, 16)), 0.1)
