"""The features of `adam_residual`, whose own test compares them with NumPy: here what holds for all gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_optim import adam_features


@pytest.mark.parametrize("shape", [(), (5,), (4, 3)])
def test_features_do_not_depend_on_the_scale_of_the_gradients(shape):
    grad = np.random.RandomState(0).standard_normal(shape)

    @jax.jit
    def features(grad):
        moments = adam_features.Moments(*(jnp.zeros(shape),) * 3)
        arrays, scales, observed, _ = adam_features.coordinates(grad, jnp.ones(shape), moments, jnp.asarray(0.0))
        return jax.tree.map(jnp.multiply, arrays, scales), observed

    made = [features(np.float32(scale * grad)) for scale in (1.0, 1e6)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *made)


@pytest.mark.parametrize("hidden_size", [0, 4])
def test_the_initial_direction_is_that_of_adam(hidden_size):
    inputs = adam_features.Features(*(np.full(3, i, np.float32) for i in range(adam_features.NUM_FEATURES)))

    @jax.jit
    def first_direction(key):
        theta = adam_features.init_direction(key, 2, hidden_size)
        scales = adam_features.Features(*(jnp.ones(()),) * adam_features.NUM_FEATURES)
        return adam_features.direction(theta, inputs, scales, jnp.ones(2))

    direction = first_direction(jax.random.key(0))
    np.testing.assert_array_equal(direction, inputs.adam)
