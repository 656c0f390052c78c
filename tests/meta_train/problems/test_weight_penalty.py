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


def test_a_coefficient_must_be_positive():
    with pytest.raises(ValueError, match=r"coefficient must be positive, got 0\.0"):
        problems.penalty_theta({"w": jnp.zeros(2)}, 0.0)
