"""Estimators that look on: the loss is told, the gradient is zero, and the state moves on as it would."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train import Problem
from meta_train import estimators
from meta_train import fit
from meta_train.outer import search
from meta_train.unroll import truncation


def _problem(name, target):
    step = lambda key, theta, state, data: (state + 1.0, jnp.sum((theta - target) ** 2) + 0.0 * state)
    return Problem(lambda key, theta, num_steps: jnp.zeros(()), step, name=name)


def _estimator(name, target):
    return estimators.nres(
        _problem(name, target), num_particles=4, unroll_length=2, horizon=truncation.constant(6), std=0.1
    )


def test_only_the_gradient_changes():
    plain = _estimator("a", 1.0)
    watched, theta = estimators.watched(plain), jnp.array([2.0, 3.0])
    state = plain.init(jax.random.key(0), theta)
    gradient, state_after, info = plain.estimate(jax.random.key(1), theta, state, plain.data)
    zero, watched_after, watched_info = watched.estimate(jax.random.key(1), theta, state, plain.data)
    assert np.all(gradient != 0)
    np.testing.assert_array_equal(zero, np.zeros(2))
    jax.tree.map(np.testing.assert_array_equal, (watched_after, watched_info), (state_after, info))


def test_a_run_follows_the_other_tasks_and_tells_the_watched_loss():
    """Also with an estimator of losses only, which has no gradient to leave out."""
    episodes = search.episodes(_problem("c", 9.0), num_particles=2, horizon=truncation.constant(2))
    watched = [estimators.watched(_estimator("b", -4.0)), estimators.watched(episodes)]
    result = fit([_estimator("a", 1.0), *watched], jnp.zeros(2), optax.sgd(0.3), num_steps=200, progress=False)
    np.testing.assert_allclose(result.theta, 1.0, atol=0.15)
    np.testing.assert_allclose(result.metrics[-1]["loss/b"], 50.0, rtol=0.1)
    np.testing.assert_allclose(result.metrics[-1]["loss/c"], 128.0, rtol=0.1)
