"""Persistent evolution strategies: unbiased gradients from truncated unrolls, without backpropagation.

Vicol, Metz, Sohl-Dickstein 2021, "Unbiased Gradient Estimation in Unrolled Computation Graphs with Persistent
Evolution Strategies", https://arxiv.org/abs/2112.13835

Deviations: an episode may end inside of a window. Losses before the end are weighted by the perturbations of the old
episode, losses after it by the new window's alone.
"""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from meta_train import truncation
from meta_train.estimators import base
from meta_train.estimators.base import Estimator
from meta_train.estimators.base import check_particles
from meta_train.estimators.base import mean_over_particles
from meta_train.problem import Problem
from meta_train.truncation import Clock
from meta_train.truncation import Horizon


class PESState(NamedTuple):
    """State of the antithetic pairs."""

    index: jax.Array  # int32[pairs], number of the pair, part of its random keys
    clock: Clock  # of int32[pairs]
    states: Any  # the problem's state, leaves [pairs, 2, …]: under the positive and the negative perturbation
    accumulator: Any  # like theta with leading axis [pairs]: sum of the perturbations since the episode began


def pes(
    problem: Problem,
    *,
    num_particles: int,
    unroll_length: int,
    horizon: Horizon,
    std: float = 0.01,
    stagger: bool = True,
) -> Estimator:
    r"""Builds the PES estimator with antithetic pairs.

    .. math:: \hat g = \frac{1}{2 \sigma^2 N K} \sum_{i=1}^{N} \sum_{t=1}^{K} \xi_i \, (L_{i,t}^+ - L_{i,t}^-)

    where each window adds a fresh perturbation to the pair's :math:`\xi_i`, and the two states of a pair live on from
    window to window, each under its own sign. It is unbiased for the gradient of the mean loss per step under Gaussian
    smoothing of theta (perturbations redrawn each window), whatever the ratio of window to horizon.

    Args:
      problem: what to differentiate; nothing needs to be differentiable.
      num_particles: antithetic pairs N. Memory is linear in it, and independent of the horizon.
      unroll_length: window K, in inner steps; at most the shortest episode.
      horizon: distribution of episode lengths.
      std: standard deviation of each window's perturbation, in units of theta.
      stagger: whether the pairs start at random offsets.

    Returns:
      An `Estimator`.

    Raises:
      ValueError: if num_particles, unroll_length or std is out of range.

    Example: the gradient of the mean of (theta * step) over 4 steps is 2.5.
      >>> import jax, jax.numpy as jnp
      >>> from meta_train import Problem, truncation
      >>> problem = Problem(
      ...     init=lambda key, theta, num_steps: jnp.zeros(()),
      ...     step=lambda key, theta, state, data: (state + theta, state + theta),
      ... )
      >>> estimator = pes(problem, num_particles=1000, unroll_length=2, horizon=truncation.constant(4))
      >>> theta = jnp.zeros(())
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> gradients = []
      >>> for step in range(40):
      ...     gradient, state, info = estimator.estimate(jax.random.key(step), theta, state, estimator.data)
      ...     gradients.append(float(gradient))
      >>> abs(sum(gradients) / len(gradients) - 2.5) < 0.1
      True

    References:
      Vicol et al. 2021, https://arxiv.org/abs/2112.13835
    """
    check_particles(num_particles)
    truncation.check_window(horizon, unroll_length)
    if not std > 0:
        raise ValueError(f"std must be positive, got {std}.")

    def init(key, theta):
        def pair(index):
            state_key, clock_key = jax.random.split(jax.random.fold_in(key, index))
            clock = truncation.start_clock(clock_key, horizon, stagger)
            state = problem.init(state_key, theta, clock.horizon)
            states = jax.tree.map(lambda x: jnp.stack([x, x]), state)
            return PESState(index, clock, states, optax.tree.zeros_like(theta))

        return jax.vmap(pair)(jnp.arange(num_particles, dtype=jnp.int32))

    def estimate(key, theta, state, data, axis_name=None):
        def pair(state):
            reset_key, horizon_key, noise_key, step_key = jax.random.split(jax.random.fold_in(key, state.index), 4)
            noise = base.perturbation(noise_key, theta, std)
            thetas = jax.tree.map(lambda t, e: jnp.stack([t + e, t - e]), theta, noise)
            next_horizon = horizon.sample(horizon_key)
            fresh = jax.vmap(lambda t: problem.init(reset_key, t, next_horizon))(thetas)
            step = lambda key, states: jax.vmap(lambda t, s: problem.step(key, t, s, data))(thetas, states)
            states, clock, losses, restarted = truncation.unroll(
                step, state.states, state.clock, fresh, next_horizon, jax.random.split(step_key, unroll_length)
            )
            differences = (losses[:, 0] - losses[:, 1]) / (2 * std**2 * unroll_length)
            before = jnp.sum(jnp.where(restarted, 0, differences))
            total = jnp.sum(differences)
            gradient = jax.tree.map(lambda a, e: a * before + e * total, state.accumulator, noise)
            accumulator = jax.tree.map(lambda a, e: jnp.where(restarted[-1], e, a + e), state.accumulator, noise)
            return gradient, jnp.mean(losses), PESState(state.index, clock, states, accumulator)

        gradients, losses, state = jax.vmap(pair)(state)
        gradient, info, keep = mean_over_particles(gradients, losses, 2 * unroll_length, axis_name)
        return gradient, state._replace(clock=truncation.end_unless(keep, state.clock)), info

    return Estimator(init, estimate, problem.data, num_particles, problem.name)
