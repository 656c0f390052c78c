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
