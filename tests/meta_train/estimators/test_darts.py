"""DARTS: finite differences in place of the second derivatives of one unrolled step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Bilevel
from meta_train import estimators

RATE = 0.3
PARAMS, THETA = np.array([0.4, -0.7, 0.2]), np.array([0.3, -0.5])
INPUTS, MIXER = np.array([[1.0, 0.5, -1.0], [0.2, -0.3, 0.8]]), np.array([[0.5, -1.0, 0.3], [1.0, 0.2, -0.4]])


def _bilevel(curved):
    """Theta mixes two losses. A third derivative in the parameters is there only if `curved`."""

    def inner_loss(params, theta, key, data):
        inputs, mixer = data
        outputs = jnp.tanh(inputs @ params) if curved else inputs @ params
        return jnp.sum(jnp.exp(theta) * outputs**2) + theta @ (mixer @ params)

    def outer_loss(params, theta, key, data):
        return jnp.sum(jnp.sin(params)) * jnp.cos(theta[0]) + theta[1] ** 2 * params[0]

    return Bilevel(inner_loss, outer_loss, lambda key, theta: jnp.asarray(PARAMS), (INPUTS, MIXER))


def _found(bilevel, **options):
    estimator = estimators.darts(bilevel, inner_optimizer=optax.sgd(0.1), inner_steps=0, **options)
    theta, data = jnp.asarray(THETA), jax.tree.map(jnp.asarray, estimator.data)
    state = estimator.init(jax.random.key(0), theta)
    gradient, _, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, data)
    return np.asarray(gradient), float(info.loss)


def _unrolled(bilevel):
    """The derivative through the step by autodiff, second derivatives and all."""

    def loss(theta):
        data = jax.tree.map(jnp.asarray, bilevel.data)
        params = jnp.asarray(PARAMS)
        moved = params - RATE * jax.grad(bilevel.inner_loss)(params, theta, None, data)
        return bilevel.outer_loss(moved, theta, None, data)

    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.asarray(THETA))
    return np.asarray(gradient), float(value)


def test_it_is_the_derivative_through_one_step_where_the_inner_loss_is_quadratic():
    with jax.enable_x64(True):
        gradient, loss = _found(_bilevel(False), rate=RATE)
        expected, value = _unrolled(_bilevel(False))
    np.testing.assert_allclose(gradient, expected, rtol=1e-10)
    np.testing.assert_allclose(loss, value, rtol=1e-14)


def test_elsewhere_the_error_falls_with_the_square_of_the_step():
    with jax.enable_x64(True):
        expected, _ = _unrolled(_bilevel(True))
        errors = [np.abs(_found(_bilevel(True), rate=RATE, relative_step=step)[0] - expected) for step in (0.1, 0.01)]
    np.testing.assert_allclose(errors[0] / errors[1], 100, rtol=0.01)
    assert np.all(errors[1] < 1e-4 * np.abs(expected))
    assert np.all(errors[1] > 0)


def test_the_first_order_is_the_direct_derivative_alone():
    with jax.enable_x64(True):
        gradient, _ = _found(_bilevel(True), rate=0.0)
    direct = [-np.sin(PARAMS).sum() * np.sin(THETA[0]), 2 * THETA[1] * PARAMS[0]]
    np.testing.assert_allclose(gradient, direct, rtol=1e-12)


def test_a_flat_outer_loss_gives_zero():
    flat = _bilevel(True)._replace(outer_loss=lambda params, theta, key, data: 0 * jnp.sum(params))
    gradient, _ = _found(flat, rate=RATE)
    np.testing.assert_array_equal(gradient, [0, 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": -1.0}, r"rate must not be negative, got -1\.0"),
        ({"rate": 1.0, "relative_step": 0.0}, r"relative_step must be positive, got 0\.0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        estimators.darts(_bilevel(False), inner_optimizer=optax.sgd(0.1), **arguments)
