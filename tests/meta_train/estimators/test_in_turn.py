"""One estimator after the other: whose gradient it is, and that the one that waits stands still."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Problem
from meta_train import estimators
from meta_train import fit
from meta_train.unroll import truncation


def _linear(kind, slope, num_particles=2, **options):
    """The loss is slope * theta + the steps made, whatever the estimator."""
    step = lambda key, theta, state, data: (state + 1.0, slope * theta + state)
    problem = Problem(lambda key, theta, num_steps: jnp.zeros(()), step, name=f"{slope:g}")
    return kind(
        problem, num_particles=num_particles, unroll_length=3, horizon=truncation.constant(12), stagger=False, **options
    )


def test_each_has_its_turn_and_waits_for_it():
    first, second = _linear(estimators.truncated_backprop, 1.0), _linear(estimators.pes, -2.0, std=0.1)
    estimator = estimators.in_turn(first, second, num_steps=2)
    assert estimator.num_particles == 2 and estimator.name == "-2"
    theta = jnp.zeros(())
    before = estimator.init(jax.random.key(0), theta)
    estimate, state, gradients, losses = jax.jit(estimator.estimate), before, [], []
    for step in range(4):
        gradient, state, info = estimate(jax.random.key(step), theta, state, estimator.data)
        gradients.append(gradient)
        losses.append(info.loss)
        if step == 1:
            jax.tree.map(np.testing.assert_array_equal, state.second, before.second)
            waiting = state.first
    jax.tree.map(np.testing.assert_array_equal, state.first, waiting)
    np.testing.assert_allclose(gradients[:2], [1.0, 1.0])
    assert gradients[2] < 0 and gradients[3] < 0
    np.testing.assert_allclose(losses, [1.0, 4.0, 1.0, 4.0], atol=0.1)  # both begin their episodes in their turn
    assert state.step.tolist() == [4, 4]


def test_a_run_on_several_devices():
    """SGD with rate 1 goes down by the slope of whoever has the turn."""
    parts = [_linear(estimators.truncated_backprop, slope) for slope in (1.0, 3.0)]
    estimator = estimators.in_turn(*parts, num_steps=2)
    result = fit(estimator, jnp.zeros(()), optax.sgd(1.0), num_steps=5, clip_norm=None, progress=False)
    np.testing.assert_allclose(result.theta, -2 * 1.0 - 3 * 3.0)


def test_what_does_not_go_together():
    make = lambda count: _linear(estimators.truncated_backprop, 1.0, count)
    with pytest.raises(ValueError, match="the same number of particles, got 2 and 4"):
        estimators.in_turn(make(2), make(4), num_steps=1)
    with pytest.raises(ValueError, match="num_steps must be at least 0, got -1"):
        estimators.in_turn(make(2), make(2), num_steps=-1)
    with pytest.raises(TypeError, match=r"num_steps must be a whole number, at least 0, got nan"):
        estimators.in_turn(make(2), make(2), num_steps=float("nan"))


def test_a_turn_without_end():
    estimator = estimators.in_turn(
        _linear(estimators.truncated_backprop, 1.0), _linear(estimators.truncated_backprop, 3.0), num_steps=2**40
    )
    state = estimator.init(jax.random.key(0), jnp.zeros(()))
    assert estimator.estimate(jax.random.key(0), jnp.zeros(()), state, estimator.data)[0] == 1.0
