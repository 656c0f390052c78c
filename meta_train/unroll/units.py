"""Inner parameters in units of their own, so that steep directions do not bound the step of all others."""

from typing import Any
from typing import Protocol

import jax
import jax.numpy as jnp
import optax


class UnitsFn(Protocol):
    """The unit in which each inner parameter is measured."""

    def __call__(self, theta: Any, params: Any, /) -> Any:
        """Computes the units.

        Args:
          theta: meta-parameters.
          params: the inner parameters; only their structure and shapes count.

        Returns:
          Positive numbers, like params.
        """
        ...


def in_units(optimizer: optax.GradientTransformation, units: Any) -> optax.GradientTransformationExtraArgs:
    r"""Wraps an optimizer so that it works on parameters divided by their units s.

    .. math:: u = w / s, \qquad \nabla_u L = s \, \nabla_w L, \qquad \Delta w = s \, \Delta u

    A step of gradient descent with rate alpha becomes one with the rate :math:`\alpha s^2`, for each parameter its own.

    Args:
      optimizer: an optax transformation.
      units: positive numbers, like the parameters.

    Returns:
      An optax transformation. Its update needs params if the optimizer's does.

    Example: with a unit of 0.5 the rate 1 becomes 0.25.
      >>> tx = in_units(optax.sgd(1.0), jnp.asarray(0.5))
      >>> updates, _ = tx.update(jnp.asarray(4.0), tx.init(jnp.asarray(0.0)))
      >>> float(updates)
      -1.0
    """
    inner = optax.with_extra_args_support(optimizer)
    times = lambda tree: jax.tree.map(lambda x, unit: jnp.asarray(unit, x.dtype) * x, tree, units)
    over = lambda tree: jax.tree.map(lambda x, unit: x / jnp.asarray(unit, x.dtype), tree, units)

    def update(updates, state, params=None, **extra):
        moved = None if params is None else over(params)
        updates, state = inner.update(times(updates), state, moved, **extra)
        return times(updates), state

    return optax.GradientTransformationExtraArgs(lambda params: inner.init(over(params)), update)
