"""ARUBA's rates on a case by hand: two tasks, two coordinates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train.estimators import aruba_rates

SETTINGS = {"distance": 0.5, "slope": 2.0, "power": 2.0}


def test_two_tasks_by_hand():
    """b = 1/4 and g = 4 at first; after a task they have gained half of the squared way and 1/4 and 4 over 2² or 3²."""
    with jax.enable_x64(True):
        theta = aruba_rates.begin(jnp.zeros(2, jnp.float64), distance=0.5, slope=2.0)
        np.testing.assert_allclose(aruba_rates.rates(theta), [0.25, 0.25], rtol=1e-15)
        b, g = aruba_rates.increment(theta, jnp.array([1.0, 0.0]), jnp.array([3.0, 0.0]), **SETTINGS)
        np.testing.assert_allclose(b, [0.5 + 0.0625, 0.0625], rtol=1e-15)
        np.testing.assert_allclose(g, [3.0 + 1.0, 1.0], rtol=1e-15)

        tx = aruba_rates.outer(optax.sgd(0.5))
        step = theta._replace(initial=jnp.array([-1.0, 0.0]), distances=-b, slopes=-g, tasks=-jnp.ones((), jnp.float32))
        updates, _ = tx.update(step, tx.init(theta), theta)
        theta = optax.apply_updates(theta, updates)
        np.testing.assert_allclose(theta.initial, [0.5, 0.0], rtol=1e-15)
        np.testing.assert_allclose(theta.tasks, 2.0)
        rates = np.sqrt([0.8125 / 8.0, 0.3125 / 5.0])
        np.testing.assert_allclose(aruba_rates.rates(theta), rates, rtol=1e-15)

        b, g = aruba_rates.increment(theta, jnp.array([2.5, 1.0]), jnp.array([0.0, 2.0]), **SETTINGS)
        np.testing.assert_allclose(b, [2.0 + 0.25 / 9, 0.5 + 0.25 / 9], rtol=1e-7)  # the number of tasks is a float32
        np.testing.assert_allclose(g, [4 / 9, 2.0 + 4 / 9], rtol=1e-7)


def test_descent_steps_by_the_rates_and_sums_squares():
    theta = aruba_rates.begin({"w": jnp.zeros(2), "b": jnp.zeros(())}, distance=1.0, slope=2.0)
    gradient = {"w": jnp.array([1.0, -2.0]), "b": jnp.asarray(4.0)}
    for online, first, second in ((False, 0.5, 0.5), (True, 1 / np.sqrt(5.0), 1 / np.sqrt(6.0))):
        tx = aruba_rates.descent(theta, online=online)
        updates, state = tx.update(gradient, tx.init(gradient))
        np.testing.assert_allclose(updates["w"][0], -first, rtol=1e-6)
        updates, state = tx.update(gradient, state)
        np.testing.assert_allclose(updates["w"][0], -second, rtol=1e-6)
        np.testing.assert_allclose(state.squares["w"], [2.0, 8.0])
        np.testing.assert_allclose(state.squares["b"], 32.0)


def test_sizes_out_of_range():
    with pytest.raises(ValueError, match=r"distance and slope must be positive, got 0.0 and 1.0"):
        aruba_rates.begin(jnp.zeros(2), distance=0.0, slope=1.0)
