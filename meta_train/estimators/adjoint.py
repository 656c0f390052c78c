"""The adjoint method: derivatives of a gradient flow, solved as a differential equation, by the package diffrax.

Li, Wang, Kirby, Zhe 2021, "Meta-Learning with Adjoint Methods", https://arxiv.org/abs/2110.08432

Deviations: the solver's steps are differentiated, with checkpoints (diffrax's `RecursiveCheckpointAdjoint`), instead of
solving the adjoint equation backwards along a path that is itself solved backwards: that is exact for the solution that
was computed, and diffrax advises against the other.
"""

import importlib.util
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp

from meta_train.estimators.base import Estimator
from meta_train.estimators.base import check_particles
from meta_train.estimators.base import mean_over_particles
from meta_train.unroll import episode_data
from meta_train.unroll.capabilities import require
from meta_train.unroll.problem import Problem


def adjoint(
    problem: Problem,
    *,
    num_particles: int = 1,
    solver: Any = None,
    step_controller: Any = None,
    first_step: float | None = None,
    max_steps: int = 4096,
) -> Estimator:
    r"""Builds the estimator of the gradient of the loss at the end of a flow.

    .. math:: \dot w = f(t, w, \theta), \qquad \dot \lambda = -\lambda^\top \nabla_w f, \qquad
              \frac{d L_V}{d w(0)} = \lambda(0) \text{ with } \lambda(T) = \nabla L_V(w(T))

    With a higher order and steps as long as the tolerances allow it needs fewer evaluations than gradient descent of
    the same duration. Memory holds about the square root of 2 max_steps checkpoints, each of the size of w.

    Args:
      problem: built by `problems.gradient_flow`, or one that declares a `flow` of its own. If the flow samples, each
        particle draws an episode's data anew in each outer step.
      num_particles: independent flows, whose gradients are averaged.
      solver: of diffrax; `diffrax.Tsit5()` by default.
      step_controller: of diffrax; `diffrax.PIDController(rtol=1e-5, atol=1e-6)` by default. With
        `diffrax.ConstantStepSize()` give first_step as well.
      first_step: length of the first step, in units of time. None lets the controller choose.
      max_steps: the most steps of the solver; a particle that needs more is dropped.

    Returns:
      An `Estimator`. `info.loss` is the loss at the end of the flow, `info.inner_steps` counts the solver's steps.

    Raises:
      ValueError: if the problem declares no flow, or num_particles or max_steps is below 1.
      ModuleNotFoundError: if diffrax is not installed.

    Example: from theta down the slope of w^2 / 2 for a time log 2, w is theta / 2.
      >>> import jax, jax.numpy as jnp
      >>> from meta_train import Bilevel, problems
      >>> bilevel = Bilevel(
      ...     inner_loss=lambda w, theta, key, data: 0.5 * w**2,
      ...     outer_loss=lambda w, theta, key, data: w,
      ...     init=lambda key, theta: theta,
      ... )
      >>> estimator = adjoint(problems.gradient_flow(bilevel, duration=0.693147))
      >>> theta = jnp.asarray(3.0)
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> gradient, state, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
      >>> round(float(gradient), 3), round(float(info.loss), 3)
      (0.5, 1.5)

    References:
      Li et al. 2021, https://arxiv.org/abs/2110.08432
    """
    flow = require(problem, "flow", "adjoint")
    check_particles(num_particles)
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}.")
    if importlib.util.find_spec("diffrax") is None:
        raise ModuleNotFoundError(
            "adjoint needs the package diffrax: pip install diffrax, or use an estimator that unrolls the "
            "steps, such as truncated_backprop."
        )
    import diffrax  # here, so that all else works without it

    solver = diffrax.Tsit5() if solver is None else solver
    controller = diffrax.PIDController(rtol=1e-5, atol=1e-6) if step_controller is None else step_controller

    def init(key, theta):
        del key, theta
        return jnp.arange(num_particles, dtype=jnp.int32)  # the particle's number, part of its random keys

    def estimate(key, theta, state, data, axis_name=None):
        def loss_at_end(theta, keys, data):
            init_key, field_key, loss_key = keys
            solution = diffrax.diffeqsolve(
                diffrax.ODETerm(lambda time, params, theta: flow.field(time, params, theta, field_key, data)),
                solver,
                t0=0.0,
                t1=flow.duration,
                dt0=first_step,
                y0=flow.init(init_key, theta),
                args=theta,
                stepsize_controller=controller,
                adjoint=diffrax.RecursiveCheckpointAdjoint(),
                max_steps=max_steps,
                throw=False,
            )
            loss = flow.loss(jax.tree.map(lambda x: x[-1], solution.ys), theta, loss_key, data)
            return loss, (solution.result == diffrax.RESULTS.successful, solution.stats["num_steps"])

        def particle(index):
            flow_key, drawn = episode_data.draw(jax.random.fold_in(key, index), flow.sample, data)
            keys = jax.random.split(flow_key, 3)
            differentiate = jax.value_and_grad(loss_at_end, has_aux=True)
            (loss, (solved, steps)), gradient = _without_mesh(differentiate, theta, keys, drawn)
            return gradient, jnp.where(solved, loss, jnp.nan), steps

        gradients, losses, steps = jax.vmap(particle)(state)
        gradient, info, _ = mean_over_particles(gradients, losses, 0, axis_name)
        total = jnp.sum(steps, dtype=jnp.int32)
        total = total if axis_name is None else jax.lax.psum(total, axis_name)
        return gradient, state, info._replace(inner_steps=total)

    return Estimator(init, estimate, problem.data, num_particles, problem.name)


def _without_mesh(function, *args):
    """Calls a function that is traced as if no mesh of devices were around.

    Inside of `jax.shard_map` diffrax's checkpointed loop refuses its own constants, whose types name no mesh where
    those of other numbers do. Each particle is solved on one device, so that the solver need not know.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), args)
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
        jaxpr, out = jax.make_jaxpr(function, return_shape=True)(*shapes)
    return jax.tree.unflatten(jax.tree.structure(out), jax.extend.core.jaxpr_as_fun(jaxpr)(*jax.tree.leaves(args)))
