"""The inner step, by hand: what it returns, what the optimizer is told, what passes through the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train.unroll.inner_step import inner_step


def _loss(scale):
    return lambda params: scale * params["w"] ** 2


def _told():
    """An optimizer that steps by the loss that it is told."""
    update = lambda updates, state, params, *, value, **extra: (jax.tree.map(lambda u: -value, updates), state + 1)
    return optax.GradientTransformationExtraArgs(lambda params: jnp.zeros((), jnp.int32), update)


def test_a_step_of_gradient_descent():
    params, tx = {"w": jnp.float32(3.0)}, optax.sgd(0.25)
    step = inner_step(_loss(jnp.float32(2.0)), tx, params, tx.init(params))
    np.testing.assert_allclose(step.params["w"], 3.0 - 0.25 * 12.0)
    np.testing.assert_allclose(step.loss, 18.0)  # before the update


def test_the_optimizer_gets_the_loss_and_its_state_comes_back():
    step = inner_step(_loss(jnp.float32(2.0)), _told(), {"w": jnp.float32(3.0)}, jnp.zeros((), jnp.int32))
    assert float(step.params["w"]) == 3.0 - 18.0
    assert int(step.opt_state) == 1


@pytest.mark.parametrize(("second_derivatives", "expected"), [(True, -0.25 * 2.0 * 3.0), (False, 0.0)])
def test_second_derivatives(second_derivatives, expected):
    """Theta is the scale of the inner loss: it moves the new parameters through the gradient only."""

    def after(theta):
        params, tx = {"w": jnp.float32(3.0)}, optax.sgd(0.25)
        state = tx.init(params)
        return inner_step(_loss(theta), tx, params, state, second_derivatives=second_derivatives).params["w"]

    np.testing.assert_allclose(jax.grad(after)(jnp.float32(2.0)), expected)


def _loss_after(weights, params, theta, *, second_derivatives=False):
    """A loss that the parameters enter by way of a product, and theta by itself."""
    loss = lambda p: jnp.sum(jnp.sin(weights @ p["w"]) ** 2) + theta
    tx = optax.sgd(0.25)
    return inner_step(loss, tx, params, tx.init(params), second_derivatives=second_derivatives).loss


def test_without_second_derivatives_the_loss_has_its_derivative():
    weights, params = jnp.array([[1.0, 2.0], [-0.5, 0.3]]), {"w": jnp.array([0.4, -0.7])}
    expected = jax.grad(lambda p: jnp.sum(jnp.sin(weights @ p["w"]) ** 2))(params)["w"]
    by_params, by_theta = jax.grad(_loss_after, argnums=(1, 2))(weights, params, 3.0)
    np.testing.assert_allclose(by_params["w"], expected, rtol=1e-6)
    assert float(by_theta) == 1.0
    along = {"w": jnp.array([0.0, 2.0])}
    _, forward = jax.jvp(lambda p: _loss_after(weights, p, 3.0), (params,), (along,))
    np.testing.assert_allclose(forward, 2.0 * expected[1], rtol=1e-6)


def test_without_second_derivatives_no_second_pass_goes_through_the_loss():
    arguments = jnp.ones((2, 2)), {"w": jnp.ones(2)}, 3.0
    products = lambda function: str(jax.make_jaxpr(function)(*arguments)).count("dot_general")
    assert products(_loss_after) == 2  # the loss, and its gradient
    assert products(jax.grad(_loss_after, argnums=(1, 2))) == 2
    with_them = lambda *arguments: _loss_after(*arguments, second_derivatives=True)
    assert products(jax.grad(with_them, argnums=(1, 2))) > 2


def test_backpropagation_keeps_no_intermediate_arrays_of_the_update():
    """The update is a chain of ten sines, each of which needs its argument in the backward pass."""

    def after(theta):
        def update(updates, state, params=None, **extra):
            for _ in range(10):
                updates = jnp.sin(theta * updates)
            return updates, state

        tx = optax.GradientTransformationExtraArgs(lambda params: (), update)
        return inner_step(lambda w: jnp.sum(w**3), tx, jnp.ones(1000), (), second_derivatives=False).params

    _, backward = jax.vjp(after, jnp.float32(1.5))
    kept = sum(leaf.size for leaf in jax.tree.leaves(backward))
    assert kept < 2 * 1000  # the gradient, and theta
