"""L2 penalties: the hypergradient of ridge regression, with one coefficient and with one for each weight."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Bilevel
from meta_train import estimators
from meta_train import problems
from meta_train.estimators import linear_solvers
from meta_train.unroll.units import in_units

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 4)), RNG.normal(size=12)
HESSIAN = X.T @ X / 12


def _loss(w, theta, key, data):
    del theta, key, data
    w = jnp.concatenate([w["a"], w["b"]])
    return 0.5 * jnp.mean((jnp.asarray(X) @ w - jnp.asarray(Y)) ** 2)


def _outer(w, theta, key, data):
    return 0.5 * jnp.sum((jnp.concatenate([w["a"], w["b"]]) - 1.0) ** 2)


RIDGE = Bilevel(_loss, _outer, lambda key, theta: {"a": jnp.zeros(1, float), "b": jnp.zeros(3, float)})


@pytest.mark.parametrize(
    "solver", [linear_solvers.conjugate_gradient(tolerance=1e-12), linear_solvers.neumann(num_terms=500, step_size=0.3)]
)
@pytest.mark.parametrize("each", [False, True])
def test_ridge_regression(each, solver):
    """-∇L_V (XᵀX + λI)⁻¹ (λ w) at the minimum w, summed over the weights if they share λ."""
    with jax.enable_x64(True):
        bilevel = problems.weight_penalty(RIDGE)
        params = RIDGE.init(None, None)
        theta = problems.penalty_theta(params, 0.5) if each else jnp.log(jnp.asarray(0.5, jnp.float64))
        make = functools.partial(estimators.implicit, inner_optimizer=optax.sgd(0.3), inner_steps=500)
        estimator = make(bilevel, solver=solver)
        state = estimator.init(jax.random.key(0), theta)
        gradient, _, _ = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, ())
    regularized = HESSIAN + 0.5 * np.eye(4)
    w = np.linalg.solve(regularized, X.T @ Y / 12)
    expected = -np.linalg.solve(regularized, w - 1.0) * 0.5 * w
    found = np.concatenate([gradient["a"], gradient["b"]]) if each else gradient
    np.testing.assert_allclose(found, expected if each else expected.sum(), rtol=1e-8)


def _learn(solver, units):
    """Penalties, parameters and dropped estimates of ten outer steps, which begin at rate × penalty = 10."""
    bilevel = problems.weight_penalty(RIDGE)
    theta = problems.penalty_theta(RIDGE.init(None, None), 100.0)
    estimator = estimators.implicit(
        bilevel, inner_optimizer=optax.sgd(0.1, momentum=0.9), inner_steps=200, solver=solver, units=units
    )

    @jax.jit
    def run(theta, state):
        def step(carry, key):
            theta, state = carry
            gradient, state, info = estimator.estimate(key, theta, state, ())
            return (jax.tree.map(lambda t, g: t - g, theta, gradient), state), info.dropped

        return jax.lax.scan(step, (theta, state), jax.random.split(jax.random.key(1), 10))

    (theta, state), dropped = run(theta, estimator.init(jax.random.key(0), theta))
    found = jax.tree.map(lambda x: np.asarray(x[0]), state.inner.params)
    return jax.tree.map(np.asarray, theta), np.concatenate([found["a"], found["b"]]), np.asarray(dropped)


@pytest.mark.parametrize(
    "solver",
    [
        linear_solvers.conjugate_gradient(),
        linear_solvers.neumann(num_terms=300, step_size=0.1),
        linear_solvers.identity(scale=0.1),
    ],
)
def test_penalties_too_large_for_the_learning_rate(solver):
    """Gradient descent diverges; in units of the penalties it is proximal, and the parameters are the minimum."""
    with jax.enable_x64(True):
        theta, found, dropped = _learn(solver, problems.penalty_units(0.1))
        _, _, without_units = _learn(solver, None)
    assert not dropped.any() and without_units.any()
    minimum = np.linalg.solve(HESSIAN + 100.0 * np.eye(4), X.T @ Y / 12)
    np.testing.assert_allclose(found, minimum, rtol=0.1)  # theta moved on the way
    assert 0 < sum(np.abs(leaf - np.log(100.0)).max() for leaf in theta.values()) < 0.2


def test_a_step_in_units_is_the_proximal_step():
    """(w - α ∇L) / (1 + α e^θ): with the rate in units of 1 / (1 + α e^θ) on the whole gradient."""
    with jax.enable_x64(True):
        theta = {"a": jnp.array([1.0]), "b": jnp.array([-2.0, 0.0, 5.0])}
        w = {"a": jnp.array([0.3]), "b": jnp.array([1.0, -2.0, 0.5])}
        tx = in_units(optax.sgd(0.1), problems.penalty_units(0.1)(theta, w))
        slope = jax.grad(problems.weight_penalty(RIDGE).inner_loss)(w, theta, None, ())
        updates, _ = tx.update(slope, tx.init(w), w)
        plain = jax.grad(RIDGE.inner_loss)(w, theta, None, ())
        for name in w:
            expected = (w[name] - 0.1 * plain[name]) / (1 + 0.1 * np.exp(theta[name]))
            np.testing.assert_allclose(w[name] + updates[name], expected, rtol=1e-14)


def test_units_of_a_single_penalty_are_those_of_each_weight():
    params = {"a": jnp.zeros(2), "b": jnp.zeros((1, 3))}
    units = problems.penalty_units(0.5)(jnp.log(6.0), params)
    assert jax.tree.map(jnp.shape, units) == {"a": (2,), "b": (1, 3)}
    for leaf in units.values():
        np.testing.assert_allclose(leaf, 0.5, rtol=1e-6)  # (1 + 0.5 × 6)^(-1/2)


def test_a_rate_must_be_positive():
    with pytest.raises(ValueError, match=r"rate must be positive, got 0\.0"):
        problems.penalty_units(0.0)


def test_a_coefficient_must_be_positive():
    with pytest.raises(ValueError, match=r"coefficient must be positive, got 0\.0"):
        problems.penalty_theta({"w": jnp.zeros(2)}, 0.0)
