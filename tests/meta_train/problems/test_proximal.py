"""Implicit MAML: the derivative of a pulled minimum by where it is pulled to."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Bilevel
from meta_train import problems
from meta_train.estimators import implicit
from meta_train.estimators import linear_solvers

MATRIX, STRENGTH = np.array([[2.0, 0.5], [0.5, 1.0]]), 0.4
SLOPE, START = np.array([3.0, -1.0]), np.array([0.5, 0.25])

# Each episode has a centre of its own; the parameters lie in two arrays.
BILEVEL = Bilevel(
    inner_loss=lambda w, theta, key, data: 0.5 * (_flat(w) - data) @ MATRIX @ (_flat(w) - data),
    outer_loss=lambda w, theta, key, data: SLOPE @ _flat(w) + 0.5 * jnp.sum((_flat(w) - data) ** 2),
    init=lambda key, theta: theta,
    sample=lambda key, data: data + jax.random.normal(key, (2,), jnp.float64),
    data=np.array([1.0, -2.0]),
)


def _flat(w):
    return jnp.concatenate([w["first"], w["second"]])


def test_the_minimum_moves_by_the_pull_over_the_whole_curvature():
    """λ (A + λ I)⁻¹, for the episode that the particle draws."""
    with jax.enable_x64(True):
        centres = []
        noted = BILEVEL._replace(
            outer_loss=lambda w, theta, key, data: (
                jax.debug.callback(lambda x: centres.append(np.asarray(x)), data),
                BILEVEL.outer_loss(w, theta, key, data),
            )[1]
        )
        estimator = implicit(
            problems.proximal(noted, strength=STRENGTH),
            inner_optimizer=optax.sgd(0.3),
            inner_steps=200,
            solver=linear_solvers.conjugate_gradient(tolerance=1e-14),
            fresh_start=True,
        )
        theta = {"first": jnp.asarray(START[:1]), "second": jnp.asarray(START[1:])}
        state = estimator.init(jax.random.key(0), theta)
        gradient, _, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
        jax.effects_barrier()
        centre = centres[-1].reshape(2)
        damped = MATRIX + STRENGTH * np.eye(2)
        minimum = np.linalg.solve(damped, MATRIX @ centre + STRENGTH * START)
        expected = STRENGTH * np.linalg.solve(damped, SLOPE + minimum - centre)
        np.testing.assert_allclose(_flat(gradient), expected, rtol=1e-10)
        np.testing.assert_allclose(info.loss, SLOPE @ minimum + 0.5 * np.sum((minimum - centre) ** 2), rtol=1e-11)


def test_strength_out_of_range():
    with pytest.raises(ValueError, match=r"strength must be positive, got 0"):
        problems.proximal(BILEVEL, strength=0.0)
