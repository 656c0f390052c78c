"""Inner parameters that go on from outer step to outer step, by closed forms of gradient descent."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Bilevel
from meta_train.estimators.warm_start import warm_start

BILEVEL = Bilevel(
    inner_loss=lambda w, theta, key, data: 0.5 * (w - theta) ** 2,
    outer_loss=lambda w, theta, key, data: w,
    init=lambda key, theta: jax.random.normal(key),
)


def _where_it_stands(bilevel, key, theta, params, data):
    """An estimate of 1 whose loss is the parameter."""
    return params, jnp.ones_like(theta)


@functools.cache  # it compiles once for several tests
def _descent():
    """Three particles that make two steps of rate 1/4 on (w - theta)^2 / 2, each from a start of its own."""
    estimator = warm_start(
        BILEVEL, _where_it_stands, "test", inner_optimizer=optax.sgd(0.25), inner_steps=2, num_particles=3
    )
    return jax.jit(estimator.init)(jax.random.key(0), jnp.asarray(2.0)), jax.jit(estimator.estimate)


def test_inner_parameters_go_on_where_they_were():
    state, estimate = _descent()
    params = np.asarray(state.inner.params)
    assert len(set(params.tolist())) == 3
    for step, theta in enumerate((2.0, -1.0)):
        gradient, state, info = estimate(jax.random.key(step), jnp.asarray(theta), state, ())
        params = theta + (params - theta) * 0.75**2
        np.testing.assert_allclose(state.inner.params, params, rtol=1e-6)
        np.testing.assert_allclose(info.loss, params.mean(), rtol=1e-6)
        assert (float(gradient), int(info.inner_steps)) == (1.0, 6)


def test_a_particle_that_diverges_is_left_out_and_begins_anew():
    state, estimate = _descent()
    theta = jnp.asarray(2.0)
    inner = state.inner._replace(params=state.inner.params.at[1].set(jnp.nan))
    gradient, state, info = estimate(jax.random.key(0), theta, state._replace(inner=inner), ())
    assert (float(gradient), int(info.dropped)) == (1.0, 1)
    first = float(state.inner.params[1])
    _, state, info = estimate(jax.random.key(1), theta, state, ())
    assert int(info.dropped) == 0
    np.testing.assert_allclose(state.inner.params[1], 2 + (first - 2) * 0.75**2, rtol=1e-6)


@pytest.mark.parametrize("fresh_start", [False, True])
def test_data_drawn_anew_and_a_fresh_start(fresh_start):
    """One step of rate 1/2 towards a drawn centre, from theta or from where the parameter was; the loss is c."""
    centres = np.array([1.0, 2.0, 4.0], np.float32)
    bilevel = Bilevel(
        inner_loss=lambda w, theta, key, centre: 0.5 * (w - centre) ** 2 + 0.0 * theta * w,
        outer_loss=lambda w, theta, key, centre: w,
        init=lambda key, theta: theta,
        data=centres,
        sample=lambda key, data: data[jax.random.randint(key, (), 0, 3)],
    )
    estimator = warm_start(
        bilevel,
        lambda bilevel, key, theta, params, data: (data, jnp.ones_like(theta)),
        "test",
        inner_optimizer=optax.sgd(0.5),
        inner_steps=1,
        num_particles=1,
        fresh_start=fresh_start,
    )
    state, estimate = estimator.init(jax.random.key(0), jnp.asarray(8.0)), jax.jit(estimator.estimate)
    expected, seen = 8.0, set()
    for step in range(10):
        theta = 10.0 + step
        _, state, info = estimate(jax.random.key(step), jnp.asarray(theta), state, estimator.data)
        expected = 0.5 * (theta if fresh_start else expected) + 0.5 * float(info.loss)
        np.testing.assert_allclose(state.inner.params[0], expected, rtol=1e-6)
        seen.add(float(info.loss))
    assert seen == set(centres.tolist())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_particles": 0}, "num_particles must be at least 1, got 0"),
        ({"inner_steps": -1}, "inner_steps must not be negative, got -1"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    arguments = {"inner_optimizer": optax.sgd(0.1), "inner_steps": 1, "num_particles": 1} | arguments
    with pytest.raises(ValueError, match=message):
        warm_start(BILEVEL, _where_it_stands, "test", **arguments)
