"""Elastic weight consolidation: a quadratic penalty holds parameters near to where earlier tasks left them.

Kirkpatrick et al. 2016, "Overcoming catastrophic forgetting in neural networks", https://arxiv.org/abs/1612.00796

The penalty has the summed importance of all tasks so far, around where the last one left the parameters. The paper adds
a penalty around where each task left them. But a task already ends at a compromise with the tasks before it, so these
would count more and more often (Huszár 2017, https://arxiv.org/abs/1712.03847). For two tasks both are the same.
"""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax


class Consolidation(NamedTuple):
    """The penalty: half the sum of importance times squared distance from the center."""

    importance: Any  # like the parameters, not negative; the sum over the tasks so far
    center: Any  # like the parameters: where the last task left them


def nothing_consolidated(params: Any) -> Consolidation:
    """The penalty before the first task, which is zero.

    Args:
      params: parameters of the network, for their shapes.
    """
    return Consolidation(optax.tree.zeros_like(params), params)


def consolidate(before: Consolidation, params: Any, importance: Any) -> Consolidation:
    """Adds a task that ends.

    Args:
      before: the penalty so far.
      params: where the task, trained with that penalty, left the parameters.
      importance: like params and not negative, such as `diagonal_fisher` gives.

    Example: the minimum of (w - 1)² is 1, that of 3 (w - 2)² beside it 7/4, which is that of both together.
      >>> import jax.numpy as jnp
      >>> state = nothing_consolidated(jnp.zeros(()))
      >>> state = consolidate(state, jnp.float32(1.0), jnp.float32(2.0))
      >>> loss = lambda w: 3 * (w - 2) ** 2 + penalty(state, w)
      >>> float(jax.grad(loss)(7 / 4))
      0.0
    """
    return Consolidation(jax.tree.map(jnp.add, before.importance, importance), params)


def penalty(state: Consolidation, params: Any) -> jax.Array:
    r"""The penalty :math:`\frac{1}{2} \sum_i F_i (w_i - c_i)^2`, float[]; add it to the loss, times a weight.

    Where the losses are diagonal quadratics and importance is their curvature, the minimum of loss and penalty is that
    of all tasks together, with the weight 1.

    Args:
      state: the penalty.
      params: the parameters.
    """
    parts = jax.tree.map(lambda f, c, w: jnp.sum(f * jnp.square(w - c)), state.importance, state.center, params)
    return 0.5 * sum(jax.tree.leaves(parts), jnp.zeros(()))
