"""Full backprop and the other exact estimators against linear algebra and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.estimators import forward_mode
from meta_train.estimators import full_backprop
from meta_train.estimators import truncated_backprop
from meta_train.unroll import truncation


def _theta():
    return {"a": jnp.array([0.5, -1.0], jnp.float64), "b": jnp.asarray(0.7, jnp.float64)}


def _flat(gradient):
    return np.append(gradient["a"], gradient["b"])


def _by_linear_algebra(problem, num_steps):
    """The gradient of the mean loss without noise: with S_t = ds_t / dtheta, it is the mean of S_t' H s_t."""
    matrix, inputs, curvature, _ = problem.data
    sensitivity, weights = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]), _flat(_theta())
    state, total = sensitivity @ weights, np.zeros(3)
    for _ in range(num_steps):
        state, sensitivity = matrix @ state + inputs @ weights, matrix @ sensitivity + inputs
        total += sensitivity.T @ curvature @ state
    return total / num_steps


@pytest.mark.parametrize("num_steps", [1, 13])
def test_exact_estimators_agree_with_linear_algebra(linear_quadratic, quick_to_compile, num_steps):
    with jax.enable_x64(True):
        init = lambda key, theta, num_steps: jnp.array([1.0, -1.0]) * theta["b"]
        problem = linear_quadratic._replace(init=init, data=(*linear_quadratic.data[:3], np.float64(0.0)))
        expected, horizon = _by_linear_algebra(problem, num_steps), truncation.constant(num_steps)
        window = truncated_backprop(problem, num_particles=2, unroll_length=num_steps, horizon=horizon, stagger=False)
        for estimator in (
            full_backprop(problem, num_particles=2, horizon=horizon),
            full_backprop(problem, num_particles=2, horizon=horizon, rematerialize=False),
            forward_mode(problem, num_particles=2, horizon=horizon),
            window,
        ):
            state, estimate = estimator.init(jax.random.key(0), _theta()), jax.jit(estimator.estimate)
            gradient, state, info = estimate(jax.random.key(1), _theta(), state, estimator.data)
            if estimator is window:  # the first state of all is a constant to it
                gradient, state, info = estimate(jax.random.key(1), _theta(), state, estimator.data)
            np.testing.assert_allclose(_flat(gradient), expected, rtol=1e-10)
            np.testing.assert_allclose(np.mean(info.step_losses), info.loss, rtol=1e-12)
            assert int(info.inner_steps) == 2 * num_steps


@pytest.mark.parametrize("rematerialize", [True, False])
def test_episodes_of_several_lengths_against_finite_differences(linear_quadratic, quick_to_compile, rematerialize):
    """With noise in steps and first states. The loss is quadratic in theta, so that central differences are exact."""
    with jax.enable_x64(True):
        horizon = truncation.log_uniform(3, 11)
        estimator = full_backprop(linear_quadratic, num_particles=4, horizon=horizon, rematerialize=rematerialize)
        state, estimate = estimator.init(jax.random.key(0), _theta()), jax.jit(estimator.estimate)
        loss = lambda theta, key: estimate(key, theta, state, estimator.data)[2].loss
        for key in jax.random.split(jax.random.key(1), 2):
            gradient, _, info = estimate(key, _theta(), state, estimator.data)
            shift = lambda by, key=key: loss({**_theta(), "b": _theta()["b"] + by}, key)
            np.testing.assert_allclose(gradient["b"], (shift(0.5) - shift(-0.5)) / 1.0, rtol=1e-10)
            assert 4 * 3 < int(info.inner_steps) < 4 * 11
            longest = np.count_nonzero(~np.isnan(info.step_losses))
            assert int(info.inner_steps) / 4 < longest <= 11


@pytest.mark.parametrize("num_particles", [0, -1])
def test_at_least_one_particle(linear_quadratic, num_particles):
    with pytest.raises(ValueError, match=f"num_particles must be at least 1, got {num_particles}"):
        full_backprop(linear_quadratic, num_particles=num_particles, horizon=truncation.constant(3))
