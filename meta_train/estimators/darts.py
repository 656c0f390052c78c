"""DARTS: the gradient through one step of the inner parameters, with finite differences for second derivatives.

Liu, Simonyan, Yang 2019, "DARTS: Differentiable Architecture Search", https://arxiv.org/abs/1806.09055

Deviations: the step looked through is one of gradient descent, as in the paper's equations; the authors' code has
momentum and weight decay in it. Several particles may be averaged, each with its own inner parameters.
"""

import jax
import jax.numpy as jnp
import optax

from meta_train.estimators.base import Estimator
from meta_train.estimators.warm_start import warm_start
from meta_train.unroll.problem import Bilevel
from meta_train.unroll.problem import Problem


def darts(
    problem: Problem | Bilevel,
    *,
    inner_optimizer: optax.GradientTransformation,
    inner_steps: int = 1,
    rate: float,
    num_particles: int = 1,
    relative_step: float = 0.01,
) -> Estimator:
    r"""Builds the estimator of DARTS.

    .. math:: \hat g = \nabla_\theta L_V(w', \theta)
              - \xi \, \frac{\nabla_\theta L(w^+, \theta) - \nabla_\theta L(w^-, \theta)}{2 \epsilon}, \qquad
              w' = w - \xi \nabla_w L(w, \theta), \quad w^\pm = w \pm \epsilon \nabla_{w'} L_V(w', \theta)

    It is the derivative of :math:`L_V(w', \theta)` up to terms of order :math:`\epsilon^2`, for two more gradients of
    the inner loss L in place of second derivatives.

    Args:
      problem: a `Bilevel`, or a problem that declares one. Theta must enter the inner loss.
      inner_optimizer: an optax transformation with final updates, for the inner parameters.
      inner_steps: its updates in each outer step. The inner parameters start where the last outer step left them.
      rate: xi, the learning rate of the step that is looked through; in the paper that of the inner optimizer. 0 is
        the first-order approximation, the direct derivative at w alone.
      num_particles: inner parameters trained side by side, whose gradients are averaged.
      relative_step: epsilon times the norm of the outer loss's gradient: how far apart w is moved to either side.

    Returns:
      An `Estimator`. `info.loss` is the outer loss at w', `info.inner_steps` counts the inner optimizer's updates.

    Raises:
      ValueError: if the problem declares no `Bilevel`, or an argument is out of range; from `init`, if the inner loss
        does not see theta.

    Example: theta pulls w = 1 to the 0.5 that the outer loss wants: w' = 1 - 2 theta rate, and dw' / dtheta = -2 rate.
      >>> import jax, jax.numpy as jnp, optax
      >>> from meta_train import Bilevel
      >>> bilevel = Bilevel(
      ...     inner_loss=lambda w, theta, key, data: (w - 1) ** 2 + theta * w**2,
      ...     outer_loss=lambda w, theta, key, data: (w - 0.5) ** 2,
      ...     init=lambda key, theta: jnp.ones(()),
      ... )
      >>> estimator = darts(bilevel, inner_optimizer=optax.sgd(0.1), inner_steps=0, rate=0.25)
      >>> theta = jnp.zeros(())
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> gradient, state, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
      >>> round(float(gradient), 3)  # 2 (w' - 0.5) dw' / dtheta
      -0.5

    References:
      Liu et al. 2019, https://arxiv.org/abs/1806.09055
    """
    if not rate >= 0:
        raise ValueError(f"rate must not be negative, got {rate}.")
    if not relative_step > 0:
        raise ValueError(f"relative_step must be positive, got {relative_step}.")

    def hypergradient(bilevel, key, theta, params, data):
        outer_key, inner_key = jax.random.split(key)
        outer = jax.value_and_grad(bilevel.outer_loss, (0, 1))
        if rate == 0:
            loss, (_, direct) = outer(params, theta, outer_key, data)
            return loss, direct
        inner_gradient = jax.grad(bilevel.inner_loss)(params, theta, inner_key, data)
        moved = optax.tree.add_scale(params, -rate, inner_gradient)
        loss, (at_moved, direct) = outer(moved, theta, outer_key, data)
        norm = optax.tree.norm(at_moved)
        step = relative_step / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny ** 0.5)
        by_theta = lambda step: jax.grad(bilevel.inner_loss, 1)(
            optax.tree.add_scale(params, step, at_moved), theta, inner_key, data
        )
        difference = optax.tree.sub(by_theta(step), by_theta(-step))
        return loss, optax.tree.add_scale(direct, -rate / (2 * step), difference)

    return warm_start(
        problem,
        hypergradient,
        "darts",
        inner_optimizer=inner_optimizer,
        inner_steps=inner_steps,
        num_particles=num_particles,
    )
