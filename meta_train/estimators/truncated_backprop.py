"""Truncated backpropagation through time: exact derivatives of a window, blind to what happened before it.

Werbos 1990, "Backpropagation through time: what it does and how to do it", https://doi.org/10.1109/5.58337; used to
train learned optimizers by Andrychowicz et al. 2016, https://arxiv.org/abs/1606.04474
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from meta_train.estimators.base import Estimator
from meta_train.estimators.base import check_particles
from meta_train.estimators.base import mean_over_particles
from meta_train.unroll import truncation
from meta_train.unroll.capabilities import require_steps
from meta_train.unroll.problem import Problem
from meta_train.unroll.truncation import Clock
from meta_train.unroll.truncation import Horizon


class TruncatedBackpropState(NamedTuple):
    """State of the workers."""

    index: jax.Array  # int32[particles], number of the worker, part of its random keys
    clock: Clock  # of int32[particles]
    states: Any  # the problem's state, leaves [particles, …]


def truncated_backprop(
    problem: Problem,
    *,
    num_particles: int,
    unroll_length: int,
    horizon: Horizon,
    objective: Callable[[jax.Array], jax.Array] = jnp.mean,
    stagger: bool = True,
) -> Estimator:
    """Builds the estimator that differentiates each window and treats the state at its start as a constant.

    It is biased: the influence of theta on the state before the window is left out. Memory grows with unroll_length.
    For the paper's variant "without second derivatives" build the problem with `second_derivatives=False`.

    Args:
      problem: a problem whose step and init are differentiable in theta.
      num_particles: independent workers, whose gradients are averaged.
      unroll_length: window, in inner steps; at most the shortest episode.
      horizon: distribution of episode lengths.
      objective: the scalar to differentiate, from the window's losses float[unroll_length].
      stagger: whether the workers start at random offsets.

    Returns:
      An `Estimator`. `info.loss` is the mean loss, whatever the objective.

    Raises:
      ValueError: if num_particles or unroll_length is out of range.

    Example: the last step of each window knows of two steps only, so the gradient is 2, not 4.
      >>> import jax, jax.numpy as jnp
      >>> from meta_train import Problem, truncation
      >>> problem = Problem(
      ...     init=lambda key, theta, num_steps: jnp.zeros(()),
      ...     step=lambda key, theta, state, data: (state + theta, state + theta),
      ... )
      >>> estimator = truncated_backprop(
      ...     problem, num_particles=1, unroll_length=2, horizon=truncation.constant(4), stagger=False,
      ...     objective=lambda losses: losses[-1],
      ... )
      >>> theta = jnp.zeros(())
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> estimate = jax.jit(estimator.estimate)
      >>> for step in range(2):
      ...     gradient, state, info = estimate(jax.random.key(step), theta, state, estimator.data)
      >>> float(gradient)
      2.0

    References:
      Andrychowicz et al. 2016, https://arxiv.org/abs/1606.04474
    """
    require_steps(problem, "truncated_backprop")
    check_particles(num_particles)
    truncation.check_window(horizon, unroll_length)

    def init(key, theta):
        def worker(index):
            state_key, clock_key = jax.random.split(jax.random.fold_in(key, index))
            clock = truncation.start_clock(clock_key, horizon, stagger)
            return TruncatedBackpropState(index, clock, problem.init(state_key, theta, clock.horizon))

        return jax.vmap(worker)(jnp.arange(num_particles, dtype=jnp.int32))

    def estimate(key, theta, state, data, axis_name=None):
        def worker(state):
            reset_key, horizon_key, step_key = jax.random.split(jax.random.fold_in(key, state.index), 3)
            next_horizon = truncation.draw(horizon_key, horizon, state.clock.outer_step)
            keys = jax.random.split(step_key, unroll_length)

            def window(theta):
                fresh = problem.init(reset_key, theta, next_horizon)
                step = lambda key, inner: problem.step(key, theta, inner, data)
                inner, clock, losses, _ = truncation.unroll(step, state.states, state.clock, fresh, next_horizon, keys)
                return objective(losses), (losses, inner, clock)

            gradient, (losses, inner, clock) = jax.grad(window, has_aux=True)(theta)
            return gradient, jnp.mean(losses), losses, TruncatedBackpropState(state.index, clock, inner)

        gradients, means, losses, state = jax.vmap(worker)(state)
        gradient, info, keep = mean_over_particles(gradients, means, unroll_length, axis_name, losses)
        return gradient, state._replace(clock=truncation.end_unless(keep, state.clock)), info

    return Estimator(init, estimate, problem.data, num_particles, problem.name)
