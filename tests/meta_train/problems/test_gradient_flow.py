"""Gradient flow as a problem: its field, and Euler's steps on parameters in two arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import Bilevel
from meta_train.problems import gradient_flow

BILEVEL = Bilevel(
    inner_loss=lambda params, theta, key, data: 0.5 * jnp.sum(data * params["w"] ** 2) + theta * params["b"],
    outer_loss=lambda params, theta, key, data: params["b"] + theta,
    init=lambda key, theta: {"w": jnp.array([1.0, 2.0]), "b": jnp.asarray(3.0)},
    data=np.array([0.5, 1.5], np.float32),
    name="bowl",
)


def test_steps_are_the_field_times_the_duration_over_their_number():
    theta = jnp.asarray(0.25)
    problem = gradient_flow(BILEVEL, duration=2.0)
    assert (problem.name, problem.bilevel, problem.flow.duration) == ("bowl", BILEVEL, 2.0)
    state = problem.init(jax.random.key(0), theta, 4)
    derivative = problem.flow.field(0.0, state.params, theta, jax.random.key(1), problem.data)
    np.testing.assert_allclose(derivative["w"], [-0.5, -3.0])
    np.testing.assert_allclose(derivative["b"], -0.25)
    step = jax.jit(problem.step)
    for count in (1, 2):
        state, loss = step(jax.random.key(1), theta, state, problem.data)
        contraction = 1 - 0.5 * np.array([0.5, 1.5])
        np.testing.assert_allclose(state.params["w"], contraction**count * np.array([1.0, 2.0]), rtol=1e-6)
        np.testing.assert_allclose(loss, 3.0 - 0.5 * 0.25 * count + 0.25, rtol=1e-6)


def test_duration_out_of_range():
    with pytest.raises(ValueError, match=r"duration must be positive, got 0.0"):
        gradient_flow(BILEVEL, duration=0.0)
