"""The features of `adam_residual`, whose own test compares them with NumPy: here what holds for all gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_optim import adam_features


@pytest.mark.parametrize("shape", [(), (5,), (4, 3)])
def test_features_do_not_depend_on_the_scale_of_the_gradients(shape):
    grad = jnp.asarray(np.random.RandomState(0).standard_normal(shape), jnp.float32)
    param = jnp.ones(shape)
    moments = adam_features.Moments(*(jnp.zeros(shape),) * 3)
    made = []
    for scale in (1.0, 1e6):
        arrays, scales, observed, _ = adam_features.coordinates(scale * grad, param, moments, jnp.asarray(0.0))
        made.append((jax.tree.map(jnp.multiply, arrays, scales), observed))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *made)


@pytest.mark.parametrize("hidden_size", [0, 4])
def test_the_initial_direction_is_that_of_adam(hidden_size):
    theta = adam_features.init_direction(jax.random.key(0), 2, hidden_size)
    inputs = adam_features.Features(*(jnp.full(3, float(i)) for i in range(adam_features.NUM_FEATURES)))
    scales = adam_features.Features(*(jnp.ones(()),) * adam_features.NUM_FEATURES)
    direction = adam_features.direction(theta, inputs, scales, jnp.ones(2))
    np.testing.assert_array_equal(direction, inputs.adam)
