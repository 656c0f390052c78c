"""Hyperparameters as unconstrained numbers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_optim import hyperparameters
from learned_optim.hyperparameters import AdamSlots


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999, 0.999999])
def test_mixing_is_one_minus_the_decay(decay):
    log = hyperparameters.logs({"one_minus_decay": 1 - decay})
    assert list(log) == ["log_one_minus_decay"] and log["log_one_minus_decay"].dtype == jnp.float32
    np.testing.assert_allclose(hyperparameters.mixing(log["log_one_minus_decay"]), 1 - decay, rtol=2e-6)


def test_mixing_stays_between_its_bounds():
    np.testing.assert_allclose(hyperparameters.mixing(jnp.asarray([-1000.0, 0.5, 1000.0])), [1e-7, 1.0, 1.0], rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_numbers_without_a_logarithm_are_an_error(value):
    with pytest.raises(ValueError, match=f"rate must be a (positive )?finite number.*got {value}"):
        hyperparameters.positive("rate", value)
    assert hyperparameters.positive("rate", 2) == 2.0


@pytest.mark.parametrize("value", [1.0, -0.1, 2.0, math.nan])
def test_decays_out_of_range_are_an_error(value):
    with pytest.raises(ValueError, match=f"b1 must be (at least 0 and below 1|a finite number).*got {value}"):
        hyperparameters.decay("b1", value)
    assert hyperparameters.decay("b1", 0) == 0.0


def _adam_theta(**changes):
    return {**hyperparameters.adam_logs(0.9, 0.999, 1e-8), **changes}


@pytest.mark.parametrize("b2", [0.0, 0.5, 0.999, 0.9999999])
def test_bias_correction_is_exact_for_decays_near_0_and_1(b2):
    """With a constant gradient of 2, m̂ is 2 and √v̂ is 2 at every step."""
    theta = hyperparameters.adam_logs(b2, b2, 1e-12)
    slots, grad = AdamSlots(jnp.zeros(1), jnp.zeros(1)), jnp.asarray([2.0])
    for step in range(4):
        direction, slots = hyperparameters.adam_direction(theta, grad, slots, jnp.asarray(float(step)))
        np.testing.assert_allclose(direction, [1.0], rtol=3e-6)


@pytest.mark.parametrize("log_epsilon", [-1000.0, math.log(1e-8)])
@pytest.mark.parametrize("log_one_minus", [-1000.0, -2.0, 0.0, 5.0])
def test_extreme_theta_gives_finite_directions_with_finite_derivatives(log_epsilon, log_one_minus):
    theta = {name: jnp.asarray(log_one_minus) for name in ("log_one_minus_b1", "log_one_minus_b2")}
    theta["log_epsilon"] = jnp.asarray(log_epsilon)
    grads = jnp.asarray([0.0, 1e-20, 1.0, -1e15, 1e30])

    def total(theta):
        slots, sums = AdamSlots(jnp.zeros(5), jnp.zeros(5)), 0.0
        for step in range(3):
            direction, slots = hyperparameters.adam_direction(theta, grads, slots, jnp.asarray(float(step)))
            sums += jnp.sum(direction)
        return sums

    value, derivative = jax.value_and_grad(total)(theta)
    assert np.isfinite(value) and all(np.isfinite(leaf) for leaf in jax.tree.leaves(derivative))


def test_gradients_count_as_1e15_at_most():
    slots, step = AdamSlots(jnp.zeros(2), jnp.zeros(2)), jnp.asarray(0.0)
    direction, (first, second) = hyperparameters.adam_direction(_adam_theta(), jnp.asarray([1e20, -1e30]), slots, step)
    np.testing.assert_allclose(direction, [1.0, -1.0], rtol=1e-6)
    np.testing.assert_allclose(first, [1e14, -1e14], rtol=1e-6)
    np.testing.assert_allclose(second, [1e27, 1e27], rtol=1e-6)
