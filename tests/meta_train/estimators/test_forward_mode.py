"""Forward mode: the gradient of full backprop, whatever the blocks, with the same draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.estimators import forward_mode
from meta_train.estimators import full_backprop
from meta_train.unroll import truncation


def test_agrees_with_full_backprop(linear_quadratic):
    """Theta has three weights: two blocks, of which the second is half empty, or one. Episodes have several lengths."""
    with jax.enable_x64(True):
        horizon = truncation.log_uniform(3, 11)
        theta = {"a": jnp.array([0.5, -1.0], jnp.float64), "b": jnp.asarray(0.7, jnp.float64)}
        reference = full_backprop(linear_quadratic, num_particles=3, horizon=horizon)
        state, key = reference.init(jax.random.key(0), theta), jax.random.key(1)
        expected, _, expected_info = jax.jit(reference.estimate)(key, theta, state, reference.data)
        for block_size in (2, 32):
            estimator = forward_mode(linear_quadratic, num_particles=3, horizon=horizon, block_size=block_size)
            gradient, _, info = jax.jit(estimator.estimate)(key, theta, state, estimator.data)
            jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-10), gradient, expected)
            jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), info, expected_info)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_particles": 0}, "num_particles must be at least 1, got 0"),
        ({"block_size": 0}, "block_size must be at least 1, got 0"),
    ],
)
def test_arguments_out_of_range(linear_quadratic, arguments, message):
    with pytest.raises(ValueError, match=message):
        forward_mode(linear_quadratic, **({"num_particles": 1, "horizon": truncation.constant(3)} | arguments))
