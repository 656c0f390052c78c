"""Implicit differentiation: the gradient at a minimum of the inner loss, however it was reached.

Lorraine, Vicol, Duvenaud 2019, "Optimizing Millions of Hyperparameters by Implicit Differentiation",
https://arxiv.org/abs/1911.02590; Rajeswaran et al. 2019, "Meta-Learning with Implicit Gradients",
https://arxiv.org/abs/1909.04630
"""

import jax
import optax

from meta_train.estimators import linear_solvers
from meta_train.estimators.base import Estimator
from meta_train.estimators.linear_solvers import LinearSolver
from meta_train.estimators.warm_start import warm_start
from meta_train.unroll.problem import Bilevel
from meta_train.unroll.problem import Problem
from meta_train.unroll.units import UnitsFn


def implicit(
    problem: Problem | Bilevel,
    *,
    inner_optimizer: optax.GradientTransformation,
    inner_steps: int,
    num_particles: int = 1,
    solver: LinearSolver | None = None,
    fresh_start: bool = False,
    units: UnitsFn | None = None,
) -> Estimator:
    r"""Builds the estimator by the implicit function theorem.

    .. math:: \frac{d L_V}{d \theta} = \frac{\partial L_V}{\partial \theta}
              - \nabla_w L_V^\top \, (\nabla_w^2 L)^{-1} \, \nabla_\theta \nabla_w L

    for the inner loss L and the outer loss :math:`L_V` at inner parameters w that minimize L. Away from the minimum,
    and with an inexact solver, it is biased. Memory and time do not depend on how long w was trained.

    Args:
      problem: a `Bilevel`, or a problem that declares one. Theta must enter the inner loss; a theta that only the
        inner optimizer sees does not move the minimum.
      inner_optimizer: an optax transformation with final updates, for the inner parameters.
      inner_steps: its updates in each outer step. The inner parameters start where the last outer step left them,
        unless `fresh_start`.
      num_particles: inner parameters trained side by side, whose gradients are averaged.
      solver: one of `linear_solvers`; `conjugate_gradient()` by default. It sees the Hessian of the inner loss on one
        minibatch.
      fresh_start: whether the inner parameters begin each outer step at `bilevel.init(key, theta)`. Implicit MAML
        needs it, whose `bilevel.sample` draws another inner problem for each outer step.
      units: `(theta, params) -> numbers like params`. The inner optimizer and the solver work on the inner parameters
        divided by these units, so that what theta adds to the Hessian's diagonal cannot make them diverge: see
        `problems.penalty_units`. None: the parameters as they are.

    Returns:
      An `Estimator`. `info.loss` is the outer loss, `info.inner_steps` counts the updates of the inner parameters.

    Raises:
      ValueError: if the problem declares no `Bilevel`, or num_particles or inner_steps is out of range; from `init`,
        if the inner loss does not see theta.

    Example: the minimum of (w - 1)^2 + theta w^2 is 1 / (1 + theta), whose derivative at 1 is -1/4.
      >>> import jax, jax.numpy as jnp, optax
      >>> from meta_train import Bilevel
      >>> bilevel = Bilevel(
      ...     inner_loss=lambda w, theta, key, data: (w - 1) ** 2 + theta * w**2,
      ...     outer_loss=lambda w, theta, key, data: w,
      ...     init=lambda key, theta: jnp.zeros(()),
      ... )
      >>> estimator = implicit(bilevel, inner_optimizer=optax.sgd(0.25), inner_steps=20)
      >>> theta = jnp.ones(())
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> gradient, state, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
      >>> float(gradient)
      -0.25

    References:
      Lorraine et al. 2019, https://arxiv.org/abs/1911.02590
    """
    solve = linear_solvers.conjugate_gradient() if solver is None else solver

    def hypergradient(bilevel, key, theta, params, data):
        outer_key, inner_key = jax.random.split(key)
        loss, (outer_gradient, direct) = jax.value_and_grad(bilevel.outer_loss, (0, 1))(params, theta, outer_key, data)
        inner_gradient = lambda params, theta: jax.grad(bilevel.inner_loss)(params, theta, inner_key, data)
        hessian = lambda v: jax.jvp(lambda params: inner_gradient(params, theta), (params,), (v,))[1]
        _, mixed = jax.vjp(lambda theta: inner_gradient(params, theta), theta)
        here = solve if units is None else linear_solvers.scaled(solve, units(theta, params))
        (indirect,) = mixed(here(hessian, outer_gradient))
        return loss, optax.tree.sub(direct, indirect)

    return warm_start(
        problem,
        hypergradient,
        "implicit",
        inner_optimizer=inner_optimizer,
        inner_steps=inner_steps,
        num_particles=num_particles,
        fresh_start=fresh_start,
        units=units,
    )
