"""Smoothed problems: backpropagation gives the gradient of the smoothed loss, which evolution strategies estimate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import Problem
from meta_train import estimators
from meta_train import problems
from meta_train.unroll import truncation

THETA, STD = 0.5, 0.4


def _cubes():
    """s' = s + theta from s = theta, with loss s'^3: (2 theta)^3, then (3 theta)^3."""

    def step(key, theta, state, data):
        state = state + theta["x"]
        return state, jnp.sum(state**3)

    return Problem(lambda key, theta, num_steps: theta["x"], step)


def test_the_gradient_is_that_of_the_smoothed_loss():
    """That of the mean, 35 theta^3 / 2: its derivative 52.5 theta^2 gains 52.5 sigma^2. An episode has one
    perturbation, for its first state too."""
    problem = problems.smoothed(_cubes(), STD)
    estimator = estimators.full_backprop(problem, num_particles=50_000, horizon=truncation.constant(2))
    theta = {"x": jnp.full(2, THETA)}
    run = jax.jit(lambda key: estimator.estimate(key, theta, estimator.init(key, theta), estimator.data))
    gradient, _, info = run(jax.random.key(0))
    right, error = 52.5 * (THETA**2 + STD**2), np.sqrt(info.coordinate_variances["x"])
    assert np.all(abs(gradient["x"] - right) < 4 * error)
    assert np.all(error < 0.01 * right)


def test_an_episode_keeps_its_perturbation():
    problem = problems.smoothed(_cubes(), STD)
    theta = {"x": jnp.full(1000, THETA)}
    state = first = problem.init(jax.random.key(0), theta, jnp.asarray(2))
    np.testing.assert_allclose(np.std(first.noise["x"]), STD, rtol=0.1)
    np.testing.assert_allclose(first.inner, THETA + first.noise["x"], rtol=1e-6)
    for count in (2, 3):
        state, _ = problem.step(jax.random.key(count), theta, state, ())
        np.testing.assert_allclose(state.inner, count * (THETA + first.noise["x"]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan")])
def test_an_impossible_deviation_is_an_error(std):
    with pytest.raises(ValueError, match=r"std must be positive, got"):
        problems.smoothed(_cubes(), std)
