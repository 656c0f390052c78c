"""ARUBA as a meta-learner: on bowls that are alike in one coordinate and unlike in the other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Bilevel
from meta_train import fit
from meta_train.estimators import aruba
from meta_train.estimators import aruba_rates

SIZES = {"distance": 0.1, "slope": 1.0}


def _bowl(spread):
    """The centre of each task, whose first coordinate is 2 and whose second varies."""
    loss = lambda w, initial, key, centre: 0.5 * jnp.sum((w - centre) ** 2)
    sample = lambda key, data: data + spread * jax.random.normal(key, (2,)) * jnp.array([0.0, 1.0])
    return Bilevel(loss, loss, init=lambda key, initial: initial, sample=sample, data=np.array([2.0, 0.0], np.float32))


def test_a_task_by_hand():
    """Two steps at the rate 1/10 shrink the distance to .9 and .81; the gradients are these distances before."""
    estimator = aruba(_bowl(0.0), num_steps=2, power=1.0, num_particles=2, **SIZES)
    theta = aruba_rates.begin(jnp.array([1.0, 3.0]), **SIZES)
    state = estimator.init(jax.random.key(0), theta)
    gradient, _, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
    distance = np.array([-1.0, 3.0])
    np.testing.assert_allclose(gradient.initial, 0.19 * distance, rtol=1e-6)
    np.testing.assert_allclose(gradient.distances, -(0.5 * (0.19 * distance) ** 2 + 0.01 / 2), rtol=1e-6)
    np.testing.assert_allclose(gradient.slopes, -(distance**2 * (1 + 0.81) + 1 / 2), rtol=1e-6)
    np.testing.assert_allclose(gradient.tasks, -1.0)
    np.testing.assert_allclose(info.loss, 0.5 * 0.81**2 * np.sum(distance**2), rtol=1e-6)
    assert int(info.inner_steps) == 4


def test_fit_learns_where_to_begin_and_that_what_varies_needs_the_larger_rate():
    estimator = aruba(_bowl(1.0), num_steps=5, num_particles=4, **SIZES)
    theta = aruba_rates.begin(jnp.zeros(2), **SIZES)
    outer = aruba_rates.outer(optax.sgd(0.5))
    result = fit(estimator, theta, outer, num_steps=200, clip_norm=None, progress=False, devices=jax.devices()[:1])
    np.testing.assert_allclose(result.theta.initial[0], 2.0, atol=1e-3)
    assert float(result.theta.tasks) == 201.0
    first, second = aruba_rates.rates(result.theta)
    assert second > 1.5 * first
    losses = [record["loss"] for record in result.metrics]
    assert np.mean(losses[-50:]) < 0.5 * np.mean(losses[:10])


def test_refusals():
    with pytest.raises(ValueError, match=r"num_steps must be at least 1, got 0"):
        aruba(_bowl(1.0), num_steps=0, **SIZES)
    with pytest.raises(ValueError, match=r"power not negative, got 0.1, 1.0 and -1"):
        aruba(_bowl(1.0), num_steps=1, power=-1.0, **SIZES)
    with pytest.raises(ValueError, match=r"aruba needs an ArubaTheta, got float: make it"):
        aruba(_bowl(1.0), num_steps=1, **SIZES).init(jax.random.key(0), 1.0)
