"""Antithetic pairs, and the shaping of their differences on one device and over shards."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.estimators import antithetic
from meta_train.estimators import centered_ranks

DIFFERENCES = np.array([-20.0, 0.5, 3.0, 0.0, -2.0, 40.0], np.float32)


def test_a_pair_is_theta_with_the_noise_and_without():
    theta, noise = {"a": jnp.array([1.0, 2.0]), "b": jnp.asarray(3.0)}, {"a": jnp.array([0.5, 0.0]), "b": jnp.ones(())}
    pair = antithetic.pair(theta, noise)
    np.testing.assert_array_equal(pair["a"], [[1.5, 2.0], [0.5, 2.0]])
    np.testing.assert_array_equal(pair["b"], [4.0, 2.0])


def test_weigh():
    weighed = antithetic.weigh({"a": jnp.ones((2, 3)), "b": jnp.array([1.0, 2.0])}, jnp.array([5.0, -1.0]))
    np.testing.assert_array_equal(weighed["a"], [[5.0] * 3, [-1.0] * 3])
    np.testing.assert_array_equal(weighed["b"], [5.0, -2.0])


def test_centered_ranks_are_those_of_the_differences_and_their_negatives():
    differences = np.random.default_rng(0).normal(size=9).astype(np.float32)
    everything = np.concatenate([differences, -differences])
    ranks = np.array([np.sum(everything < difference) for difference in differences], np.float64)
    np.testing.assert_allclose(centered_ranks(differences), ranks / 8.5 - 1, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(centered_ranks(-differences), -centered_ranks(differences))
    np.testing.assert_array_equal(centered_ranks(jnp.zeros(3)), np.zeros(3))
    assert centered_ranks(jnp.array([jnp.nan, 1.0]))[1] == np.float32(1 / 3)  # what is dropped comes last


@pytest.mark.parametrize("shaping", [None, jnp.sign, centered_ranks])
def test_shards_are_shaped_together(shaping):
    std = 0.1
    slopes = DIFFERENCES / (2 * std**2)
    shape = functools.partial(antithetic.shape, shaping, std=std)
    expected = (DIFFERENCES if shaping is None else shaping(DIFFERENCES)) / (2 * std**2)
    np.testing.assert_allclose(shape(slopes, axis_name=None), expected, rtol=1e-6)
    shards = jax.vmap(lambda x: shape(x, axis_name="shards"), axis_name="shards")(slopes.reshape(3, 2))
    np.testing.assert_allclose(shards.ravel(), expected, rtol=1e-6)
