"""The inner step: gradient, optimizer's update, new parameters. Everything that trains inner parameters shares it."""

from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
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
    value, grads = jax.value_and_grad(loss)(params)
    if not second_derivatives:
        grads = jax.lax.stop_gradient(grads)
    tx = optax.with_extra_args_support(inner_optimizer)
    updates, opt_state = tx.update(grads, opt_state, params, value=value)
    return InnerStep(optax.apply_updates(params, updates), opt_state, value)
