"""Normalised estimates: the direction stays, the scale of the losses matters less or not at all, zero stays zero."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Problem
from meta_train import estimators
from meta_train import fit
from meta_train.unroll import truncation


def _problem(scale):
    """The loss is scale * (3 a + 4 b) at every step."""
    step = lambda key, theta, state, data: (state, scale * (3 * theta["a"] + 4 * theta["b"]) * state)
    return Problem(lambda key, theta, num_steps: jnp.ones(()), step, name=f"scale-{scale:g}")


def _estimator(scale, kind=estimators.truncated_backprop):
    return kind(_problem(scale), num_particles=4, unroll_length=2, horizon=truncation.constant(2))


THETA = {"a": jnp.zeros(()), "b": jnp.zeros(())}


def _estimate(estimator):
    state = estimator.init(jax.random.key(0), THETA)
    return estimator.estimate(jax.random.key(1), THETA, state, estimator.data)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_the_direction_stays_and_the_norm_is_a_power_of_what_it_was(scale, power):
    gradient, _, info = _estimate(estimators.normalized(_estimator(scale), power))
    norm = (5 * scale) ** (1 - power)
    np.testing.assert_allclose([gradient["a"], gradient["b"]], [0.6 * norm, 0.8 * norm], rtol=1e-5)
    _, _, plain = _estimate(_estimator(scale))
    assert info.coordinate_variances == ()
    jax.tree.map(np.testing.assert_array_equal, info, plain._replace(coordinate_variances=()))


def test_zero_stays_zero():
    gradient, _, _ = _estimate(estimators.normalized(_estimator(0.0)))
    jax.tree.map(lambda leaf: np.testing.assert_array_equal(leaf, 0.0), gradient)


def test_tasks_have_the_same_say_whatever_their_scale():
    """Two tasks that pull in opposite directions, one a million times as hard, cancel: theta stays."""
    ones = estimators.normalized(_estimator(1.0)), estimators.normalized(_estimator(-1e6))
    result = fit(ones, THETA, optax.sgd(0.1), num_steps=3, progress=False)
    np.testing.assert_allclose([result.theta["a"], result.theta["b"]], 0.0, atol=1e-6)
    result = fit((_estimator(1.0), _estimator(-1e6)), THETA, optax.sgd(0.1), num_steps=3, progress=False)
    assert result.theta["b"] > 0.1


def test_it_goes_with_evolution_strategies_on_several_devices():
    gradient, _, _ = _estimate(estimators.normalized(_estimator(7.0, estimators.nres)))
    np.testing.assert_allclose(optax.tree.norm(gradient), 1.0, rtol=1e-5)


@pytest.mark.parametrize("power", [-0.1, 1.1, float("nan")])
def test_an_impossible_power_is_an_error(power):
    with pytest.raises(ValueError, match=r"power must lie between 0 and 1, got"):
        estimators.normalized(_estimator(1.0), power)
