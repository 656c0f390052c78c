"""The flow of a softmax layer against plain gradient descent in fine steps, differentiated step by step."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.problems.softmax_flow import softmax_flow

RNG = np.random.default_rng(0)
FEATURES, WEIGHTS = RNG.normal(size=(4, 5)), RNG.normal(size=(5, 3))
LABELS = np.array([0, 1, 2, 1], np.int32)
QUERY, SLOPE = RNG.normal(size=(2, 5)), RNG.normal(size=(2, 3))
LOG_TIME = np.array(0.7)


def _outer_loss(weights):
    return jnp.sum(SLOPE * jax.nn.log_softmax(QUERY @ weights))


def _by_flow(features, weights, log_time, step_share=0.05):
    s = softmax_flow(features @ weights, features @ features.T, LABELS, jnp.exp(log_time), step_share=step_share)
    return weights - features.T @ s


def _slope(features, weights):
    picked = lambda weights: jax.nn.log_softmax(features @ weights)[jnp.arange(4), LABELS]
    return jax.grad(lambda weights: -jnp.mean(picked(weights)))(weights)


def _by_descent(num_steps, features, weights, log_time):
    """Euler's method: gradient descent whose rate is the time over the number of steps."""
    rate = jnp.exp(log_time) / num_steps
    step = lambda weights, _: (weights - rate * _slope(features, weights), None)
    return jax.lax.scan(step, weights, None, length=num_steps)[0]


def _gradients(adapt):
    """The outer loss, and its gradients by the features, the first weights, and the logarithm of the time."""
    loss = lambda *theta: _outer_loss(adapt(*theta))
    value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(FEATURES, WEIGHTS, LOG_TIME)
    return np.concatenate([np.ravel(x) for x in (value, *gradients)])


def test_the_hypergradient_is_that_of_descent_in_fine_steps():
    """Richardson's extrapolation takes the errors of first to third order out of those of Euler's method."""
    with jax.enable_x64(True):
        found = _gradients(_by_flow)
        rows = [_gradients(functools.partial(_by_descent, num)) for num in (500, 1000, 2000, 4000)]
        assert 1e-5 < np.max(np.abs(rows[-1] - found)) < 1e-3
        for power in (2, 4, 8):
            rows = [(power * fine - coarse) / (power - 1) for coarse, fine in itertools.pairwise(rows)]
        np.testing.assert_allclose(found, rows[0], atol=1e-8, rtol=1e-8)


def test_steps_of_the_default_length_are_accurate():
    with jax.enable_x64(True):
        fine, default = (_gradients(functools.partial(_by_flow, step_share=share)) for share in (0.05, 0.5))
        assert 1e-12 < np.max(np.abs(fine - default)) < 2e-3


def test_a_flow_that_takes_too_many_steps_is_nan():
    arguments = jnp.zeros((1, 2)), jnp.ones((1, 1)), jnp.zeros(1, jnp.int32)  # the fastest rate of change is 1/2
    flow = jax.jit(lambda time: softmax_flow(*arguments, time, step_share=0.5, max_steps=8))
    assert np.isfinite(flow(8.0)).all()
    assert np.isnan(flow(8.1)).all()
    assert np.isnan(flow(np.nan)).all()
    np.testing.assert_array_equal(flow(0.0), np.zeros((1, 2)))


def test_arguments_out_of_range():
    arguments = jnp.zeros((1, 2)), jnp.ones((1, 1)), jnp.zeros(1, jnp.int32), jnp.ones(())
    with pytest.raises(ValueError, match=r"step_share must be positive, got 0"):
        softmax_flow(*arguments, step_share=0.0)
    with pytest.raises(ValueError, match=r"max_steps must be at least 1, got 0"):
        softmax_flow(*arguments, max_steps=0)
