"""Bilevel problems step by step: against closed forms of gradient descent on quadratics."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Bilevel
from meta_train.estimators import truncated_backprop
from meta_train.problems import unrolled
from meta_train.unroll import truncation

MATRIX = np.array([[2.0, 0.5], [0.5, 1.0]])
CENTRE = np.array([1.0, -2.0])
RATE, NUM_STEPS = 0.3, 5


def _quadratic(params, theta, key, data):
    matrix, centre = data
    return 0.5 * (params - centre) @ matrix @ (params - centre)


def _last(losses):
    return losses[-1]


def _gradient(problem, theta, num_steps):
    """The derivative of the loss after num_steps steps."""
    horizon = truncation.constant(num_steps)
    estimator = truncated_backprop(
        problem, num_particles=1, unroll_length=num_steps, horizon=horizon, objective=_last, stagger=False
    )
    estimate = jax.jit(estimator.estimate)
    _, state, _ = estimate(jax.random.key(1), theta, estimator.init(jax.random.key(0), theta), estimator.data)
    return estimate(jax.random.key(2), theta, state, estimator.data)[0]  # an episode whose first state theta moves


@pytest.mark.parametrize("second_derivatives", [True, False])
def test_initial_parameters_by_maml_and_by_its_first_order_form(second_derivatives):
    """After k steps of rate a on a quadratic: (I - aA)^k A (params - centre), and A (params - centre)."""
    with jax.enable_x64(True):
        start = jnp.array([0.5, 0.25], jnp.float64)
        bilevel = Bilevel(_quadratic, _quadratic, init=lambda key, theta: theta, data=(MATRIX, CENTRE))
        problem = unrolled(bilevel, optax.sgd(RATE), second_derivatives=second_derivatives)
        contraction = np.linalg.matrix_power(np.eye(2) - RATE * MATRIX, NUM_STEPS)
        expected = MATRIX @ contraction @ (start - CENTRE)
        if second_derivatives:
            expected = contraction @ expected
        np.testing.assert_allclose(_gradient(problem, start, NUM_STEPS), expected, rtol=1e-12)


def test_theta_in_the_inner_loss():
    """Descent on (w - theta)^2 / 2 from 0 gives theta (1 - (1 - a)^k)."""
    with jax.enable_x64(True):
        theta = jnp.asarray(0.7, jnp.float64)
        bilevel = Bilevel(
            inner_loss=lambda w, theta, key, data: 0.5 * (w - theta) ** 2,
            outer_loss=lambda w, theta, key, data: 3 * w + theta**2,
            init=lambda key, theta: jnp.zeros_like(theta),
            name="follow",
        )
        problem = unrolled(bilevel, optax.sgd(RATE))
        assert (problem.name, problem.bilevel) == ("follow", bilevel)
        expected = 3 * (1 - (1 - RATE) ** NUM_STEPS) + 2 * theta
        np.testing.assert_allclose(_gradient(problem, theta, NUM_STEPS), expected, rtol=1e-12)


def test_theta_in_the_optimizer():
    """With rate theta, w = (1 - theta)^k, so that the derivative of w^2 is -2 k (1 - theta)^(2k - 1)."""
    with jax.enable_x64(True):
        theta = jnp.asarray(0.1, jnp.float64)
        bilevel = Bilevel(
            inner_loss=lambda w, theta, key, data: 0.5 * w**2,
            outer_loss=lambda w, theta, key, data: w**2,
            init=lambda key, theta: jnp.ones_like(theta),
        )
        problem = unrolled(bilevel, optax.sgd)
        assert problem.bilevel is None
        expected = -2 * NUM_STEPS * (1 - theta) ** (2 * NUM_STEPS - 1)
        np.testing.assert_allclose(_gradient(problem, theta, NUM_STEPS), expected, rtol=1e-12)


def test_several_updates_in_a_step():
    """The loss after all of them, and the same derivative as of single steps; each update draws for itself."""
    with jax.enable_x64(True):
        theta = jnp.asarray(0.1, jnp.float64)
        half_square = lambda w, theta, key, data: 0.5 * w**2
        bilevel = Bilevel(half_square, half_square, init=lambda key, theta: jnp.ones_like(theta))
        problem = unrolled(bilevel, optax.sgd, inner_steps=NUM_STEPS)
        expected = -NUM_STEPS * (1 - theta) ** (2 * NUM_STEPS - 1)
        np.testing.assert_allclose(_gradient(problem, theta, 1), expected, rtol=1e-12)
    noise = lambda w, theta, key, data: w * jax.random.normal(key)  # its gradient is the draw
    walk = Bilevel(noise, noise, init=lambda key, theta: 0.0)
    ends = []
    for inner_steps in (1, 4):
        problem = unrolled(walk, optax.sgd(1.0), inner_steps=inner_steps)
        draw = lambda key, problem=problem: problem.step(key, 0.0, problem.init(key, 0.0, 1), None)[0].params
        ends.append(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 4_000)))
    variances = [float(np.var(end)) for end in ends]
    np.testing.assert_allclose(variances, [1, 4], rtol=0.1)  # independent draws add up; equal ones would give 16
    with pytest.raises(ValueError, match="inner_steps must be at least 1, got 0"):
        unrolled(walk, optax.sgd(1.0), inner_steps=0)


def test_the_losses_draw_different_minibatches_and_the_optimizer_gets_the_inner_loss():
    """Each loss is a number that it draws; the update adds the inner one to the parameters."""
    draw = lambda w, theta, key, data: jax.random.normal(key) + data + 0 * w
    add_value = optax.GradientTransformationExtraArgs(
        init=lambda params: (), update=lambda updates, state, params, *, value: (value, state)
    )
    problem = unrolled(Bilevel(draw, draw, init=lambda key, theta: 0.0, data=np.float32(100.0)), add_value)
    state, outer = problem.step(jax.random.key(0), 0.0, problem.init(jax.random.key(1), 0.0, 10), problem.data)
    inner = float(state.params)
    assert abs(inner - 100) < 5 and abs(float(outer) - 100) < 5
    assert inner != float(outer)
