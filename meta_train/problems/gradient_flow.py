"""A `Bilevel` whose inner parameters follow the gradient flow of the inner loss."""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from meta_train.unroll.episode_data import keep_episode
from meta_train.unroll.problem import Bilevel
from meta_train.unroll.problem import Flow
from meta_train.unroll.problem import Problem


class FlowState(NamedTuple):
    """State of the flow as Euler's method follows it."""

    num_steps: jax.Array  # int32[], steps in all
    params: Any  # the inner parameters


def gradient_flow(bilevel: Bilevel, *, duration: float) -> Problem:
    r"""Builds the problem of the inner parameters that follow :math:`\dot w = -\nabla_w L(w, \theta)` for a while.

    Args:
      bilevel: the losses. Theta may move where the flow begins (`init`), the inner loss, and the outer loss.
      duration: when the flow ends and its outer loss counts; the unit is one over that of the inner loss's curvature.

    Returns:
      A `Problem` that declares `flow`, for the estimator `adjoint`. Its steps, on which all unrolled estimators work,
      are those of Euler's method: gradient descent whose rate is the duration over the number of steps.

    Raises:
      ValueError: if duration is not positive.

    Example: one step of length 1/2 down the slope of w^2.
      >>> square = lambda w, theta, key, data: w**2
      >>> problem = gradient_flow(Bilevel(square, square, init=lambda key, theta: theta), duration=0.5)
      >>> state = problem.init(jax.random.key(0), 0.25, jnp.asarray(2))
      >>> state, loss = problem.step(jax.random.key(1), 0.25, state, problem.data)
      >>> float(state.params)
      0.125
    """
    if not duration > 0:
        raise ValueError(f"duration must be positive, got {duration}.")

    def field(time, params, theta, key, data):
        del time
        return jax.tree.map(jnp.negative, jax.grad(bilevel.inner_loss)(params, theta, key, data))

    def init(key, theta, num_steps):
        return FlowState(jnp.asarray(num_steps, jnp.int32), bilevel.init(key, theta))

    def step(key, theta, state, data):
        inner_key, outer_key = jax.random.split(key)
        derivative = field(None, state.params, theta, inner_key, data)
        move = lambda w, d: w + duration * d / state.num_steps.astype(jnp.result_type(d))
        params = jax.tree.map(move, state.params, derivative)
        return FlowState(state.num_steps, params), bilevel.outer_loss(params, theta, outer_key, data)

    flow = Flow(bilevel.init, field, bilevel.outer_loss, duration, bilevel.sample)
    problem = Problem(init, step, bilevel.data, bilevel.name, bilevel=bilevel, flow=flow)
    return keep_episode(problem, bilevel.sample)
