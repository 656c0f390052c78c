"""Losses of whole episodes: by hand, for lengths that vary, and without the episodes that diverge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import Problem
from meta_train import truncation
from meta_train.search import episodes


def _evaluate(problem, theta, num_particles, horizon):
    estimator = episodes(problem, num_particles=num_particles, horizon=horizon)
    state = estimator.init(jax.random.key(0), theta)
    return jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)


def test_the_mean_loss_of_an_episode():
    """The state decays by theta from 1, and its loss after a step is its square plus a number from the data."""

    def step(key, theta, state, data):
        return state * theta, (state * theta) ** 2 + data

    problem = Problem(lambda key, theta, num_steps: jnp.ones(()), step, np.float32(0.25))
    gradient, _, info = _evaluate(problem, np.float32(0.9), 3, truncation.constant(30))
    assert gradient is None
    np.testing.assert_allclose(info.loss, np.mean(0.81 ** np.arange(1, 31)) + 0.25, rtol=1e-5)
    assert (int(info.inner_steps), int(info.dropped)) == (90, 0)


def test_lengths_are_told_and_counted_and_diverged_episodes_left_out():
    """The loss of every step is the episode's length, and NaN for those of 6 steps."""
    problem = Problem(
        init=lambda key, theta, num_steps: num_steps.astype(jnp.float32),
        step=lambda key, theta, state, data: (state, jnp.where(state == 6, jnp.nan, state * theta["scale"] + data)),
        data=np.float32(100.0),
    )
    theta = {"scale": np.float32(1.0)}
    _, _, info = _evaluate(problem, theta, 200, truncation.log_uniform(3, 6))
    dropped, steps = int(info.dropped), int(info.inner_steps)
    assert 10 < dropped < 100
    np.testing.assert_allclose((info.loss - 100) * (200 - dropped), steps - 6 * dropped, rtol=1e-4)


def test_at_least_one_particle():
    with pytest.raises(ValueError, match="num_particles must be at least 1, got 0"):
        episodes(None, num_particles=0, horizon=truncation.constant(3))
