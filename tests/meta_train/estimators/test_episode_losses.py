"""Losses of whole episodes: by hand, for lengths that vary, and without the episodes that diverge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import Bilevel
from meta_train import Problem
from meta_train.estimators import episode_losses
from meta_train.estimators import full_es
from meta_train.outer import search
from meta_train.outer.search import elite_es
from meta_train.training import engine
from meta_train.unroll import episodes as whole
from meta_train.unroll import truncation


def _evaluate(problem, theta, num_particles, horizon):
    estimator = episode_losses(problem, num_particles=num_particles, horizon=horizon)
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


@pytest.mark.parametrize(
    ("horizon", "first", "second"),
    [
        (truncation.constant(3), (3, 3), (3, 3)),
        (truncation.log_uniform(2, 5), (2, 5), (2, 5)),
        (truncation.power_law(2, 5, 2.0), (2, 5), (2, 5)),
        (truncation.growing(2, 5000, num_steps=1), (2, 2), (3, 5000)),
    ],
)
def test_every_kind_of_horizon_in_a_search(horizon, first, second):
    """The loss of every step is the episode's length, for both candidates and both particles."""
    problem = Problem(
        init=lambda key, theta, num_steps: num_steps.astype(jnp.float32),
        step=lambda key, theta, state, data: (state, state),
    )
    estimator = episode_losses(problem, num_particles=2, horizon=horizon)
    strategy = elite_es(num_candidates=2, num_elites=1, std=0.1)
    built = engine.build([estimator], strategy, steps_per_dispatch=2)
    _, metrics = built.run(built.init({"x": np.float32(1.0)}, 0), 0, 2)
    np.testing.assert_array_equal(metrics.inner_steps, 4 * metrics.loss)
    for loss, (low, high) in zip(metrics.loss, (first, second), strict=True):
        assert low <= loss <= high


def test_the_same_episodes_as_full_es():
    """Its losses, without perturbations, are what `episodes.mean_loss` gives."""
    problem = Problem(
        init=lambda key, theta, num_steps: jax.random.normal(key),
        step=lambda key, theta, state, data: (state, theta * state + jax.random.normal(key)),
    )
    horizon, theta = truncation.log_uniform(2, 6), np.float32(0.5)
    _, _, info = _evaluate(problem, theta, 4, horizon)
    _, _, expected = jax.jit(full_es(problem, num_particles=4, horizon=horizon, std=1e-9).estimate)(
        jax.random.key(1), theta, whole.start(horizon, 4), ()
    )
    np.testing.assert_allclose(info.loss, expected.loss, rtol=1e-5)


def test_a_bilevel_has_no_episodes():
    bilevel = Bilevel(lambda *_: 0.0, lambda *_: 0.0, lambda *_: 0.0)
    with pytest.raises(TypeError, match="episode_losses unrolls the steps of a Problem"):
        episode_losses(bilevel, num_particles=1, horizon=truncation.constant(3))


def test_at_least_one_particle():
    with pytest.raises(ValueError, match="num_particles must be at least 1, got 0"):
        episode_losses(None, num_particles=0, horizon=truncation.constant(3))


def test_its_name_among_the_searches():
    assert search.episodes is episode_losses
