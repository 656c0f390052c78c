"""Progress, decays, and the log step size of a tensor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_optim import schedule

UNKNOWN = jnp.asarray([0.1, 0.2, 0.3])


@pytest.mark.parametrize(("step", "tau"), [(0.0, 0.0), (50.0, 0.25), (200.0, 1.0), (300.0, 1.0)])
def test_progress_of_a_known_horizon(step, tau):
    progress, decay = schedule.progress(jnp.asarray(step), jnp.asarray(200.0), UNKNOWN)
    expected = (2 * tau - 1, 0.5 * np.log(0.5), tau**4, 1.0)
    np.testing.assert_allclose(progress, expected, rtol=1e-6)
    np.testing.assert_allclose(decay, max(1 - tau, 0.01), rtol=1e-6)


def test_progress_of_an_unknown_horizon():
    progress, decay = schedule.progress(jnp.asarray(50.0), jnp.asarray(0.0), UNKNOWN)
    np.testing.assert_allclose(progress, [0.1, 0.2, 0.3, 0.0], rtol=1e-6)
    assert float(decay) == 1.0


def test_decays_without_a_horizon():
    assert float(schedule.anytime(jnp.asarray(0.0), jnp.asarray(0.5))) == 1.0
    np.testing.assert_allclose(schedule.anytime(jnp.asarray(300.0), jnp.asarray(0.5)), 0.5, rtol=1e-6)
    np.testing.assert_allclose(schedule.early(jnp.asarray(20.0)), np.exp(-1.0), rtol=1e-6)


@pytest.mark.parametrize("hidden_size", [0, 3])
def test_the_initial_log_step_is_the_base_for_all_features(hidden_size):
    theta = schedule.init_step(jax.random.key(0), 2, -1.5, hidden_size)
    for is_vector in (False, True):
        assert float(schedule.log_step(theta, jnp.asarray([3.0, -9.0]), is_vector)) == -1.5


def test_what_features_add_to_the_log_step_is_clipped():
    theta = schedule.init_step(jax.random.key(0), 1, 0.0, 0) | {"skip": jnp.ones(1), "base": jnp.asarray([1.0, 2.0])}
    assert float(schedule.log_step(theta, jnp.asarray([3.0]), is_vector=False)) == 4.0
    assert float(schedule.log_step(theta, jnp.asarray([99.0]), is_vector=True)) == 7.0


def test_sizes():
    assert float(schedule.size(jnp.full(5, 9.0))) == pytest.approx(0.1)
    assert float(schedule.size(jnp.full((4, 2), 9.0))) == pytest.approx(9.0)
    assert float(schedule.size(jnp.zeros((2, 2, 5)))) == pytest.approx(0.05)  # .1 / √4
