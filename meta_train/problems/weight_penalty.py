"""L2 penalties as theta: one for all weights, or one for each.

Lorraine, Vicol, Duvenaud 2019, "Optimizing Millions of Hyperparameters by Implicit Differentiation",
https://arxiv.org/abs/1911.02590
"""

from typing import Any

import jax
import jax.numpy as jnp

from meta_train.unroll.problem import Bilevel


def weight_penalty(bilevel: Bilevel) -> Bilevel:
    r"""Adds a penalty to the inner loss, whose coefficients are theta.

    .. math:: L(w) + \frac{1}{2} \sum_i e^{\theta_i} w_i^2

    As many hyperparameters as weights can fit any validation set, as weights can fit a training set: keep other
    examples to judge the result by.

    Args:
      bilevel: the losses without the penalty. Theta is the whole theta: the losses must not need it.

    Returns:
      A `Bilevel` whose theta is a scalar, or a pytree like the inner parameters (`penalty_theta`).

    Example: the minimum of (w - 1)² / 2 + eᵗ w² / 2 is 1 / (1 + eᵗ).
      >>> loss = lambda w, theta, key, data: 0.5 * (w - 1) ** 2
      >>> penalized = weight_penalty(Bilevel(loss, loss, init=lambda key, theta: jnp.zeros(())))
      >>> slope = jax.grad(penalized.inner_loss)(jnp.asarray(0.5), jnp.asarray(0.0), None, ())
      >>> float(slope)
      0.0

    References:
      Lorraine et al. 2019, https://arxiv.org/abs/1911.02590
    """

    def inner_loss(params, theta, key, data):
        weights = jax.tree.leaves(params)
        logs = jax.tree.leaves(theta)
        if len(logs) == 1:
            logs = logs * len(weights)
        squares = [jnp.sum(jnp.exp(log) * jnp.square(w)) for log, w in zip(logs, weights, strict=True)]
        return bilevel.inner_loss(params, theta, key, data) + 0.5 * sum(squares)

    return bilevel._replace(inner_loss=inner_loss)


def penalty_theta(params: Any, coefficient: float) -> Any:
    """The theta of one coefficient for each weight, all equal.

    Args:
      params: inner parameters; only their shapes count.
      coefficient: of each penalty, above 0.

    Raises:
      ValueError: if coefficient is not positive.

    Example:
      >>> penalty_theta({"w": jnp.ones(2)}, 1.0)["w"].tolist()
      [0.0, 0.0]
    """
    if not coefficient > 0:
        raise ValueError(f"coefficient must be positive, got {coefficient}.")
    return jax.tree.map(lambda w: jnp.full_like(w, jnp.log(coefficient)), params)
