"""Perturbations of theta: their spread, and leaves of several dtypes."""

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.unroll.perturbations import perturbation
from meta_train.unroll.perturbations import ravel

THETA = {"a": jnp.arange(4, dtype=jnp.float32), "b": jnp.full((2, 500), 0.5, jnp.bfloat16)}


def test_a_vector_and_back():
    flat, unravel = ravel(THETA)
    assert flat.dtype == jnp.float32 and flat.shape == (1004,)
    back = unravel(flat)
    for name, leaf in THETA.items():
        assert back[name].dtype == leaf.dtype
        np.testing.assert_array_equal(back[name], leaf)


def test_the_spread_and_the_structure():
    drawn = perturbation(jax.random.key(0), THETA, 0.1)
    assert jax.tree.map(jnp.shape, drawn) == jax.tree.map(jnp.shape, THETA)
    assert {name: leaf.dtype for name, leaf in drawn.items()} == {name: leaf.dtype for name, leaf in THETA.items()}
    numbers = np.asarray(drawn["b"], np.float64)
    assert abs(numbers.std() - 0.1) < 0.01 and abs(numbers.mean()) < 0.01
