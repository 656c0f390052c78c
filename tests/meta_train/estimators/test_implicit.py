"""Implicit differentiation: closed forms of ridge regression and of implicit MAML on quadratics."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_optim
from meta_train import Bilevel
from meta_train import fit
from meta_train import problems
from meta_train import tasks
from meta_train.estimators import implicit
from meta_train.estimators import linear_solvers
from meta_train.estimators import truncated_backprop
from meta_train.unroll import truncation

RNG = np.random.default_rng(0)
INPUTS, TARGETS = RNG.normal(size=(12, 3)), RNG.normal(size=12)
HELD_OUT_INPUTS, HELD_OUT_TARGETS = RNG.normal(size=(8, 3)), RNG.normal(size=8)
DATA = {"train": (INPUTS, TARGETS), "held_out": (HELD_OUT_INPUTS, HELD_OUT_TARGETS)}
PENALTY = 0.7
EXACT = linear_solvers.conjugate_gradient(tolerance=1e-14)


def _residual(params, arrays):
    inputs, targets = arrays
    return inputs[:, :2] @ params["first"] + inputs[:, 2] * params["last"] - targets


def _ridge_minimum(theta):
    solution = jnp.linalg.solve(INPUTS.T @ INPUTS + theta * jnp.eye(3), INPUTS.T @ TARGETS)
    return {"first": solution[:2], "last": solution[2]}


def _ridge(init):
    """Ridge regression of penalty theta, the loss that of held-out data; parameters in two arrays."""

    def inner_loss(params, theta, key, data):
        penalty = 0.5 * theta * optax.tree.norm(params, squared=True)
        return 0.5 * jnp.sum(_residual(params, data["train"]) ** 2) + penalty

    def outer_loss(params, theta, key, data):
        return 0.5 * jnp.sum(_residual(params, data["held_out"]) ** 2)

    return Bilevel(inner_loss, outer_loss, init, DATA, "ridge")


AT_MINIMUM = _ridge(lambda key, theta: jax.lax.stop_gradient(_ridge_minimum(theta)))


def _estimate(bilevel, theta, solver, inner_steps=0, inner_optimizer=None):
    """Gradient and info of the first outer step."""
    optimizer = optax.sgd(0.02) if inner_optimizer is None else inner_optimizer
    estimator = implicit(bilevel, inner_optimizer=optimizer, inner_steps=inner_steps, solver=solver)

    @jax.jit
    def run(theta, data):
        return estimator.estimate(jax.random.key(1), theta, estimator.init(jax.random.key(0), theta), data)

    gradient, _, info = run(theta, estimator.data)
    return gradient, info


def test_ridge_regression():
    """-grad L_V' (X'X + theta I)^-1 w at the minimum w."""
    with jax.enable_x64(True):
        hessian = INPUTS.T @ INPUTS + PENALTY * np.eye(3)
        minimum = np.linalg.solve(hessian, INPUTS.T @ TARGETS)
        residual = HELD_OUT_INPUTS @ minimum - HELD_OUT_TARGETS
        expected = -(HELD_OUT_INPUTS.T @ residual) @ np.linalg.solve(hessian, minimum)
        gradient, info = _estimate(AT_MINIMUM, jnp.asarray(PENALTY, jnp.float64), EXACT)
        np.testing.assert_allclose(gradient, expected, rtol=1e-11)
        np.testing.assert_allclose(info.loss, 0.5 * residual @ residual, rtol=1e-12)
        by_identity, _ = _estimate(AT_MINIMUM, jnp.asarray(PENALTY, jnp.float64), linear_solvers.identity(scale=0.1))
        np.testing.assert_allclose(by_identity, -0.1 * (HELD_OUT_INPUTS.T @ residual) @ minimum, rtol=1e-11)


@pytest.mark.parametrize("num_terms", [0, 1, 7])
def test_neumann_series_equals_unrolling_from_the_minimum(num_terms):
    with jax.enable_x64(True):
        theta, rate = jnp.asarray(PENALTY, jnp.float64), 0.02
        solver = linear_solvers.neumann(num_terms=num_terms, step_size=rate)
        gradient, _ = _estimate(AT_MINIMUM, theta, solver)

        length = num_terms + 1
        unrolling = truncated_backprop(
            problems.unrolled(AT_MINIMUM, optax.sgd(rate)),
            num_particles=1,
            unroll_length=length,
            horizon=truncation.constant(length),
            objective=lambda losses: losses[-1],
            stagger=False,
        )
        state = jax.jit(unrolling.init)(jax.random.key(0), theta)
        expected, _, _ = jax.jit(unrolling.estimate)(jax.random.key(1), theta, state, unrolling.data)
        np.testing.assert_allclose(gradient, expected, rtol=1e-12)


def test_neumann_series_tends_to_the_solution():
    with jax.enable_x64(True):
        theta = jnp.asarray(PENALTY, jnp.float64)
        expected, _ = _estimate(AT_MINIMUM, theta, EXACT)
        few, many = (
            _estimate(AT_MINIMUM, theta, linear_solvers.neumann(num_terms=n, step_size=0.04))[0] for n in (3, 600)
        )
        np.testing.assert_allclose(many, expected, rtol=1e-10)
        assert abs(few / expected - 1) > 0.01


def test_implicit_maml_on_a_quadratic():
    """argmin of a quadratic about c plus p |phi - theta|^2 / 2 moves by p (A + p I)^-1; descent finds it first."""
    with jax.enable_x64(True):
        matrix, centre, pull = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([1.0, -2.0]), 0.4
        slope = np.array([3.0, -1.0])
        bilevel = Bilevel(
            inner_loss=lambda phi, theta, key, data: (
                0.5 * (phi - centre) @ matrix @ (phi - centre) + 0.5 * pull * jnp.sum((phi - theta) ** 2)
            ),
            outer_loss=lambda phi, theta, key, data: slope @ phi + 0.5 * jnp.sum(theta**2),
            init=lambda key, theta: theta,
        )
        theta = jnp.array([0.5, 0.25], jnp.float64)
        gradient, info = _estimate(bilevel, theta, EXACT, inner_steps=200, inner_optimizer=optax.sgd(0.3))
        damped = matrix + pull * np.eye(2)
        np.testing.assert_allclose(gradient, pull * np.linalg.solve(damped, slope) + theta, rtol=1e-11)
        minimum = np.linalg.solve(damped, matrix @ centre + pull * theta)
        np.testing.assert_allclose(info.loss, slope @ minimum + 0.5 * theta @ theta, rtol=1e-12)
        assert int(info.inner_steps) == 200


def test_implicit_maml_on_a_distribution_of_quadratics():
    """Each outer step draws a centre and starts at theta: the loss tells both, after too few steps for the minimum."""
    with jax.enable_x64(True):
        centres, matrix, pull = np.array([[1.0, -2.0], [3.0, 0.5]]), np.array([[2.0, 0.5], [0.5, 1.0]]), 0.4
        slope, damped = np.array([3.0, -1.0]), matrix + pull * np.eye(2)
        bilevel = Bilevel(
            inner_loss=lambda phi, theta, key, centre: (
                0.5 * (phi - centre) @ matrix @ (phi - centre) + 0.5 * pull * jnp.sum((phi - theta) ** 2)
            ),
            outer_loss=lambda phi, theta, key, centre: slope @ phi,
            init=lambda key, theta: theta,
            data=centres,
            sample=lambda key, data: jnp.asarray(data)[jax.random.randint(key, (), 0, 2)],
        )
        estimator = implicit(bilevel, inner_optimizer=optax.sgd(0.3), inner_steps=2, solver=EXACT, fresh_start=True)
        estimate, state = jax.jit(estimator.estimate), estimator.init(jax.random.key(0), jnp.zeros(2))
        contraction, seen = np.linalg.matrix_power(np.eye(2) - 0.3 * damped, 2), set()
        for step in range(8):
            theta = jnp.array([0.5 * step, 0.25])
            gradient, state, info = estimate(jax.random.key(step), theta, state, estimator.data)
            np.testing.assert_allclose(gradient, pull * np.linalg.solve(damped, slope), rtol=1e-10)
            minima = np.linalg.solve(damped, (matrix @ centres.T).T[..., None] + pull * theta[:, None])[..., 0]
            errors = abs((minima + (theta - minima) @ contraction.T) @ slope - info.loss)
            assert errors.min() < 1e-10
            seen.add(int(errors.argmin()))
        assert seen == {0, 1}


def test_fit_finds_the_penalty():
    """The minimum of (w - 1)^2 + theta w^2 is 1 / (1 + theta): 0.5, as the outer loss wants it, at theta = 1."""
    bilevel = Bilevel(
        inner_loss=lambda w, theta, key, data: (w - 1) ** 2 + theta * w**2,
        outer_loss=lambda w, theta, key, data: (w - 0.5) ** 2,
        init=lambda key, theta: jnp.zeros(()),
    )
    estimator = implicit(bilevel, inner_optimizer=optax.sgd(0.2), inner_steps=10, num_particles=2)
    result = fit(estimator, np.float32(0.2), optax.sgd(2.0), num_steps=100, progress=False)
    np.testing.assert_allclose(result.theta, 1.0, atol=1e-3)


def test_refusals():
    weights = problems.optimizer_weights(learned_optim.mlp((4,)), tasks.get("quadratic"))
    arguments = {"inner_optimizer": optax.sgd(0.1), "inner_steps": 1, "solver": EXACT}
    with pytest.raises(ValueError, match=r"implicit needs a problem .* 'quadratic', a Problem, lacks"):
        implicit(weights, **arguments)
    with pytest.raises(ValueError, match="implicit needs a problem"):  # theta is the rate of the inner optimizer
        implicit(problems.unrolled(AT_MINIMUM, optax.sgd), **arguments)
    assert implicit(problems.unrolled(AT_MINIMUM, optax.sgd(0.1)), **arguments).name == "ridge"
    blind = AT_MINIMUM._replace(inner_loss=lambda params, theta, key, data: jnp.sum(params["first"]))
    with pytest.raises(ValueError, match=r"implicit differentiates .* 'ridge' does not depend on theta"):
        implicit(blind, **arguments).init(jax.random.key(0), jnp.ones(()))
