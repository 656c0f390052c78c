"""Baselines: what their names say, and the schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train.evaluation.baselines import BASELINES
from meta_train.evaluation.baselines import LEARNING_RATES

pytestmark = pytest.mark.optax_promotion


def _updates(tx, count):
    """Of gradients that are always 1, at a parameter that is always 0."""
    params = jnp.zeros(())
    state, made = tx.init(params), []
    for _ in range(count):
        update, state = tx.update(jnp.ones(()), state, params)
        made.append(float(update))
    return np.array(made)


def test_the_grid_has_three_rates_a_decade_and_reaches_beyond_one():
    np.testing.assert_allclose(np.diff(np.log10(LEARNING_RATES)), 1 / 3, atol=0.02)
    assert LEARNING_RATES[0] == 1e-5
    assert LEARNING_RATES[-1] == 10


def test_the_cosine_goes_from_the_rate_to_zero_at_the_horizon():
    made = _updates(BASELINES["adamw-cosine"].make(0.1, 10), 12)
    expected = 0.05 * (1 + np.cos(np.pi * np.minimum(np.arange(12) / 10, 1)))
    np.testing.assert_allclose(-made, expected, rtol=1e-4, atol=1e-9)


def test_constant_rates_know_no_horizon():
    for name, baseline in BASELINES.items():
        if not baseline.scheduled:
            np.testing.assert_array_equal(
                *(_updates(baseline.make(0.1, horizon), 3) for horizon in (5, 50)), err_msg=name
            )


def test_momentum_and_adam():
    np.testing.assert_allclose(_updates(BASELINES["momentum"].make(0.1, 9), 3), [-0.1, -0.19, -0.271], rtol=1e-5)
    np.testing.assert_allclose(_updates(BASELINES["adam"].make(0.1, 9), 2), [-0.1, -0.1], rtol=1e-4)
    np.testing.assert_allclose(_updates(BASELINES["adam-1e-3"].make(0.1, 9), 2), [-1e-3, -1e-3], rtol=1e-4)


@pytest.mark.parametrize("name", [name for name, baseline in BASELINES.items() if baseline.tuned])
def test_rates_may_be_traced(name):
    make = lambda rate: BASELINES[name].make(rate, 4)
    first = jax.jit(lambda rate: make(rate).update(jnp.ones(2), make(rate).init(jnp.ones(2)), jnp.ones(2))[0])
    np.testing.assert_allclose(first(0.2), 2 * first(0.1), rtol=1e-5)


def test_schedule_free_is_judged_at_its_average():
    """Gradients are taken between the average and the fast iterate."""
    baseline = BASELINES["schedule-free"]
    tx, params = baseline.make(None, 9), jnp.ones(2)
    state = tx.init(params)
    for _ in range(5):
        updates, state = tx.update(params, state, params)
        params = optax.apply_updates(params, updates)
    average = baseline.judged(state, params)
    assert np.all(state.z < params)
    assert np.all(params < average)
