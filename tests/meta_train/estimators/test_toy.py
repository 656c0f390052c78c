"""The toy of the PES paper, on which windows mislead whoever sees nothing else."""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest

from meta_train import Problem
from meta_train import estimators
from meta_train.unroll import truncation


@pytest.mark.optax_promotion
def test_pes_solves_it_and_truncated_estimators_do_not():
    """Gradient descent for 100 steps by a log-linear schedule of rates, in windows of 10 (Vicol et al. 2021).

    Windows alone lead to a mean loss of 24.2, near the start; with the whole episode in view it falls below 5.
    """
    horizon, window = 100, 10

    def loss(x):
        basin = jnp.sqrt(x[0] ** 2 + 5) - jnp.sqrt(5.0)
        return basin + jnp.sin(x[1]) ** 2 * jnp.exp(-5 * x[0] ** 2) + 0.25 * jnp.abs(x[1] - 100)

    def step(key, theta, state, data):
        x, time = state
        rate = jnp.exp(theta[0] * (1 - time / horizon) + theta[1] * time / horizon)
        return (x - rate * jax.grad(loss)(x), time + 1), loss(x)

    problem = Problem(lambda key, theta, num_steps: (jnp.ones(2), jnp.zeros(())), step)
    theta, tx = jnp.array([-4.0, -4.0]), optax.adam(1e-2, b1=0.99)
    settings = {"num_particles": 100, "unroll_length": window, "horizon": truncation.constant(horizon)}

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def train(init, estimate):
        def outer_step(carry, key):
            theta, state, outer_state = carry
            gradient, state, _ = estimate(key, theta, state, ())
            updates, outer_state = tx.update(gradient, outer_state)
            return (optax.apply_updates(theta, updates), state, outer_state), None

        keys = jax.random.split(jax.random.key(1), 1000)
        (theta_end, _, _), _ = jax.lax.scan(outer_step, (theta, init(keys[0], theta), tx.init(theta)), keys)
        run = lambda state, _: step(None, theta_end, state, ())
        return jnp.mean(jax.lax.scan(run, problem.init(None, theta_end, horizon), None, length=horizon)[1])

    outcomes = {}
    for name, estimator in {
        "pes": estimators.pes(problem, std=0.3, **settings),
        "truncated_es": estimators.truncated_es(problem, std=0.3, **settings),
        "truncated_backprop": estimators.truncated_backprop(problem, **settings),
    }.items():
        outcomes[name] = float(train(estimator.init, estimator.estimate))
    assert outcomes["pes"] < 6
    assert outcomes["truncated_es"] > 24
    assert outcomes["truncated_backprop"] > 24
