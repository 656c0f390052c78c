"""The inner step: gradient, optimizer's update, new parameters. Everything that trains inner parameters shares it."""

from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import jax.numpy as jnp
import optax


class InnerLossFn(Protocol):
    """A loss of inner parameters, with all other arguments bound."""

    def __call__(self, params: Any, /) -> jax.Array:
        """Computes the loss.

        Args:
          params: the inner parameters; the gradient is taken with respect to them.

        Returns:
          float[], the loss.
        """
        ...


class InnerStep(NamedTuple):
    """What an inner step returns."""

    params: Any  # the inner parameters after the update
    opt_state: Any  # the inner optimizer's state after the update
    loss: jax.Array  # float[], the loss of the parameters before the update


def inner_step(
    loss: InnerLossFn,
    inner_optimizer: optax.GradientTransformation,
    params: Any,
    opt_state: Any,
    *,
    second_derivatives: bool = True,
) -> InnerStep:
    """Makes one update of the inner parameters.

    Args:
      loss: `(params) -> scalar`, such as `lambda params: task.loss(params, key, data, config)`.
      inner_optimizer: an optax transformation with final updates; it gets the loss as `value=`.
      params: the inner parameters.
      opt_state: the inner optimizer's state.
      second_derivatives: whether derivatives with respect to theta may pass through the gradient.

    Returns:
      An `InnerStep`. The loss is the raw one: a task's own scale is taken out by `tasks.base.normalized_loss`.

    Example: a step of gradient descent on w².
      >>> tx = optax.sgd(0.25)
      >>> step = inner_step(lambda w: w**2, tx, 1.0, tx.init(1.0))
      >>> float(step.params), float(step.loss)
      (0.5, 1.0)
    """
    if second_derivatives:
        value, grads = jax.value_and_grad(loss)(params)
    else:
        # The gradient is at hand: no second pass through the loss is needed to differentiate its value.
        value, grads = jax.value_and_grad(loss)(jax.lax.stop_gradient(params))
        grads = jax.lax.stop_gradient(grads)
        value = _differentiable(value, grads, params)
    tx = optax.with_extra_args_support(inner_optimizer)

    def update(params, opt_state, grads, value):
        updates, opt_state = tx.update(grads, opt_state, params, value=value)
        return optax.apply_updates(params, updates), opt_state

    # Backpropagation computes all of the update but its matrix products again: keeping what lies between costs more.
    update = jax.checkpoint(update, prevent_cse=False, policy=jax.checkpoint_policies.dots_saveable)
    params, opt_state = update(params, opt_state, grads, value)
    return InnerStep(params, opt_state, value)


@jax.custom_jvp
def _differentiable(value, grads, params):
    """Returns the value, and gives it the derivative with respect to params that grads are."""
    del grads, params
    return value


@_differentiable.defjvp
def _differentiable_jvp(primals, tangents):
    value, grads, _ = primals
    along_value, _, along_params = tangents
    products = jax.tree.map(lambda g, p: jnp.sum(g.astype(value.dtype) * p.astype(value.dtype)), grads, along_params)
    return value, sum(jax.tree.leaves(products), start=along_value)
