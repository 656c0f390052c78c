"""The adjoint method on quadratics, whose flow is a matrix exponential."""

import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Bilevel
from meta_train import fit
from meta_train import problems
from meta_train.estimators import adjoint
from meta_train.estimators import truncated_backprop
from meta_train.unroll import truncation

MATRIX = np.array([[2.0, 0.5], [0.5, 1.0]])
SLOPE, DURATION = np.array([3.0, -1.0]), 0.8
START, CENTRE = np.array([0.5, 0.25]), np.array([1.0, -2.0])
EIGENVALUES, VECTORS = np.linalg.eigh(MATRIX)
DECAY = VECTORS @ np.diag(np.exp(-DURATION * EIGENVALUES)) @ VECTORS.T  # exp(-A T)

BILEVEL = Bilevel(
    inner_loss=lambda w, theta, key, data: 0.5 * (w - theta["centre"]) @ data @ (w - theta["centre"]),
    outer_loss=lambda w, theta, key, data: SLOPE.astype(w.dtype) @ w + 0.5 * jnp.sum(w**2) + theta["start"][0],
    init=lambda key, theta: theta["start"],
    data=MATRIX,
    name="quadratic",
)


def _theta():
    return {"start": jnp.asarray(START), "centre": jnp.asarray(CENTRE)}


@functools.cache
def _closed_form():
    """The loss at the end of the flow, its derivative exp(-A T) grad by the start, and that by the centre."""
    end = CENTRE + DECAY @ (START - CENTRE)
    gradient = SLOPE + end
    by_start, by_centre = DECAY @ gradient, (np.eye(2) - DECAY) @ gradient
    return SLOPE @ end + 0.5 * end @ end + START[0], by_start + np.array([1.0, 0.0]), by_centre


def test_a_quadratic():
    with jax.enable_x64(True):
        estimator = adjoint(
            problems.gradient_flow(BILEVEL, duration=DURATION),
            num_particles=2,
            step_controller=diffrax.PIDController(rtol=1e-11, atol=1e-11),
        )
        theta = _theta()
        state = estimator.init(jax.random.key(0), theta)
        gradient, _, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
        loss, by_start, by_centre = _closed_form()
        np.testing.assert_allclose(info.loss, loss, rtol=1e-9)
        np.testing.assert_allclose(gradient["start"], by_start, rtol=1e-9)
        np.testing.assert_allclose(gradient["centre"], by_centre, rtol=1e-9)
        assert int(info.dropped) == 0
        assert 20 < int(info.inner_steps) < 400


def test_backpropagation_through_euler_steps_errs_in_proportion_to_the_step():
    with jax.enable_x64(True):
        theta, (_, by_start, _) = _theta(), _closed_form()
        errors = []
        for num_steps in (100, 200, 400):
            estimator = truncated_backprop(
                problems.gradient_flow(BILEVEL, duration=DURATION),
                num_particles=1,
                unroll_length=num_steps,
                horizon=truncation.constant(num_steps),
                objective=lambda losses: losses[-1],
                stagger=False,
            )
            estimate = jax.jit(estimator.estimate)
            _, state, _ = estimate(jax.random.key(1), theta, estimator.init(jax.random.key(0), theta), estimator.data)
            gradient, _, _ = estimate(jax.random.key(2), theta, state, estimator.data)
            errors.append(np.linalg.norm(gradient["start"] - by_start))
        np.testing.assert_allclose(np.array(errors[:2]) / errors[1:], 2.0, rtol=0.02)
        assert 1e-4 < errors[0] < 0.1


def test_euler_s_method_as_the_solver_is_backpropagation_through_gradient_descent():
    """(I - h A)^n in place of the exponential; the solver and its steps are arguments."""
    with jax.enable_x64(True):
        num_steps, theta = 16, _theta()
        estimator = adjoint(
            problems.gradient_flow(BILEVEL, duration=DURATION),
            solver=diffrax.Euler(),
            step_controller=diffrax.ConstantStepSize(),
            first_step=DURATION / num_steps,
        )
        state = estimator.init(jax.random.key(0), theta)
        gradient, _, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
        power = np.linalg.matrix_power(np.eye(2) - DURATION / num_steps * MATRIX, num_steps)
        end = CENTRE + power @ (START - CENTRE)
        np.testing.assert_allclose(gradient["start"], power @ (SLOPE + end) + np.array([1.0, 0.0]), rtol=1e-10)
        assert int(info.inner_steps) == num_steps


def test_fit_finds_the_start_and_drops_flows_that_take_too_many_steps():
    """The loss (w(T) - 1)^2 is least where the start is exp(T); a stiff flow of 20 is too much for 30 steps."""
    bilevel = Bilevel(
        inner_loss=lambda w, theta, key, data: 0.5 * w**2 * jnp.where(jax.random.bernoulli(key), 1e4, 1.0),
        outer_loss=lambda w, theta, key, data: (w - 1) ** 2,
        init=lambda key, theta: theta * 1.0,
    )
    flow = problems.gradient_flow(bilevel, duration=1.0)
    controller = diffrax.PIDController(rtol=1e-3, atol=1e-4)
    estimator = adjoint(flow, num_particles=8, solver=diffrax.Heun(), step_controller=controller, max_steps=30)
    result = fit(estimator, np.float32(1.0), optax.sgd(1.0), num_steps=40, clip_norm=None, progress=False)
    np.testing.assert_allclose(result.theta, np.e, rtol=3e-3)
    assert 100 < sum(record["dropped"] for record in result.metrics) < 220


def test_each_flow_draws_its_data_once():
    """From theta towards a drawn centre c, w(T) = c + exp(-T) (theta - c): the loss tells c."""
    centres = np.array([1.0, 2.0, 4.0], np.float32)
    bilevel = Bilevel(
        inner_loss=lambda w, theta, key, centre: 0.5 * (w - centre) ** 2,
        outer_loss=lambda w, theta, key, centre: w,
        init=lambda key, theta: theta,
        data=centres,
        sample=lambda key, data: data[jax.random.randint(key, (), 0, 3)],
    )
    estimator = adjoint(problems.gradient_flow(bilevel, duration=DURATION))
    theta, estimate, seen = jnp.asarray(0.5), jax.jit(estimator.estimate), set()
    state, decay = estimator.init(jax.random.key(0), theta), np.exp(-DURATION)
    for step in range(12):
        gradient, state, info = estimate(jax.random.key(step), theta, state, estimator.data)
        np.testing.assert_allclose(gradient, decay, rtol=1e-4)
        seen.add(round(float((info.loss - decay * theta) / (1 - decay)), 2))
    assert seen == set(centres.tolist())


def test_refusals(monkeypatch):
    flow = problems.gradient_flow(BILEVEL, duration=DURATION)
    with pytest.raises(ValueError, match=r"adjoint needs .* `flow` \(.*\), which 'quadratic', a Problem, lacks"):
        adjoint(problems.unrolled(BILEVEL, optax.sgd(0.1)))
    with pytest.raises(TypeError, match=r"adjoint needs .* `flow` \(.*\), which 'quadratic', a Bilevel, lacks"):
        adjoint(BILEVEL)
    with pytest.raises(ValueError, match="num_particles must be at least 1, got 0"):
        adjoint(flow, num_particles=0)
    with pytest.raises(ValueError, match="max_steps must be at least 1, got 0"):
        adjoint(flow, max_steps=0)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install diffrax, or use an estimator"):
        adjoint(flow)
