"""L2 penalties as theta: one for all weights, or one for each.

Lorraine, Vicol, Duvenaud 2019, "Optimizing Millions of Hyperparameters by Implicit Differentiation",
https://arxiv.org/abs/1911.02590
"""

from typing import Any

import jax
import jax.numpy as jnp

from meta_train.unroll.problem import Bilevel
from meta_train.unroll.units import UnitsFn


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
        squares = jax.tree.map(lambda c, w: jnp.sum(c * jnp.square(w)), _coefficients(theta, params), params)
        return bilevel.inner_loss(params, theta, key, data) + 0.5 * sum(jax.tree.leaves(squares))

    return bilevel._replace(inner_loss=inner_loss)


def penalty_units(rate: float) -> UnitsFn:
    r"""Builds the units of the inner parameters in which no penalty is too large for a learning rate.

    .. math:: s_i = (1 + \alpha e^{\theta_i})^{-1/2}

    Gradient descent diverges where rate × penalty is above 2. In these units (`estimators.implicit(…, units=…)`) its
    step is the proximal one, which treats the penalty implicitly:

    .. math:: w_i - \alpha s_i^2 (\nabla_i L + e^{\theta_i} w_i) =
              \frac{w_i - \alpha \nabla_i L}{1 + \alpha e^{\theta_i}}

    and where alpha times the eigenvalues of the Hessian of L is at most 1, it is so with the penalty, however large.

    Args:
      rate: alpha, the inner learning rate and step size of the Neumann series, above 0.

    Returns:
      A function `(theta, params) -> units`, for theta of `weight_penalty`.

    Raises:
      ValueError: if rate is not positive.

    Example: the penalty 30 at the rate 0.1.
      >>> units = penalty_units(0.1)
      >>> float(units(jnp.log(30.0), jnp.zeros(())))  # (1 + 3)^(-1/2)
      0.5

    References:
      Parikh, Boyd 2014, "Proximal Algorithms", https://doi.org/10.1561/2400000003
    """
    if not rate > 0:
        raise ValueError(f"rate must be positive, got {rate}.")

    def units(theta, params):
        return jax.tree.map(lambda c: jax.lax.rsqrt(1 + rate * c), _coefficients(theta, params))

    return units


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


def _coefficients(theta, params):
    """The penalties, like params: a single number holds for all."""
    logs, structure = jax.tree.leaves(theta), jax.tree.structure(params)
    if len(logs) == 1:
        logs = logs * structure.num_leaves
    spread = lambda log, w: jnp.broadcast_to(jnp.exp(log), jnp.shape(w))
    return structure.unflatten([spread(*pair) for pair in zip(logs, jax.tree.leaves(params), strict=True)])
