"""Truncated evolution strategies: perturbs theta in a window, blind to what happened before it.

The biased baseline of Vicol, Metz, Sohl-Dickstein 2021, https://arxiv.org/abs/2112.13835; used to train learned
optimizers by Metz et al. 2019, "Understanding and correcting pathologies in the training of learned optimizers",
https://arxiv.org/abs/1810.10180
"""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from meta_train.estimators import antithetic
from meta_train.estimators import cache_groups
from meta_train.estimators.antithetic import Shaping
from meta_train.estimators.base import Estimator
from meta_train.estimators.base import PerturbationFn
from meta_train.estimators.base import check_particles
from meta_train.estimators.base import check_std
from meta_train.estimators.base import mean_over_particles
from meta_train.unroll import truncation
from meta_train.unroll.capabilities import require_steps
from meta_train.unroll.perturbations import perturbation
from meta_train.unroll.problem import Problem
from meta_train.unroll.truncation import Clock
from meta_train.unroll.truncation import Horizon


class TruncatedESState(NamedTuple):
    """State of the antithetic pairs."""

    index: jax.Array  # int32[pairs], number of the pair, part of its random keys
    clock: Clock  # of int32[pairs]
    states: Any  # the problem's state under theta itself, leaves [pairs, …]


def truncated_es(
    problem: Problem,
    *,
    num_particles: int,
    unroll_length: int,
    horizon: Horizon,
    std: float = 0.01,
    stagger: bool = True,
    shaping: Shaping | None = None,
    draw: PerturbationFn = perturbation,
) -> Estimator:
    r"""Builds the estimator that runs each window under antithetic perturbations, from one unperturbed state.

    .. math:: \hat g = \frac{1}{2 \sigma^2 N K} \sum_{i=1}^{N} \sum_{t=1}^{K} \epsilon_i \, (L_{i,t}^+ - L_{i,t}^-)

    It is biased, as `truncated_backprop` is: the influence of theta on the state before the window is left out. A third
    run of the window, without perturbation, carries the state on, so that a pair makes three inner steps at a time.

    Args:
      problem: what to differentiate; nothing needs to be differentiable.
      num_particles: antithetic pairs N. Memory is linear in it, and independent of the horizon.
      unroll_length: window K, in inner steps; at most the shortest episode.
      horizon: distribution of episode lengths.
      std: standard deviation of each window's perturbation, in units of theta.
      stagger: whether the pairs start at random offsets.
      shaping: an odd function of the pairs' loss differences; it adds a bias of its own. See `gpes`.
      draw: draws the perturbations, by default independent normal numbers. With another covariance, the estimate is the
        gradient times that covariance over std². `guided_es` uses it.

    Returns:
      An `Estimator`. `info.loss` is the mean loss of the perturbed runs.

    Raises:
      ValueError: if num_particles, unroll_length or std is out of range.

    Example: windows know of two steps only, so the gradient of the mean of (theta * step) over 4 steps is 1.5, not 2.5.
      >>> import jax, jax.numpy as jnp
      >>> from meta_train import Problem, truncation
      >>> problem = Problem(
      ...     init=lambda key, theta, num_steps: jnp.zeros(()),
      ...     step=lambda key, theta, state, data: (state + theta, state + theta),
      ... )
      >>> estimator = truncated_es(
      ...     problem, num_particles=10_000, unroll_length=2, horizon=truncation.constant(4), stagger=False)
      >>> theta, estimate = jnp.zeros(()), jax.jit(estimator.estimate)
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> for step in range(2):
      ...     gradient, state, info = estimate(jax.random.key(step), theta, state, estimator.data)
      ...     print(bool(abs(gradient - 1.5) < 0.1))
      True
      True

    References:
      Metz et al. 2019, https://arxiv.org/abs/1810.10180; Vicol et al. 2021, https://arxiv.org/abs/2112.13835
    """
    require_steps(problem, "truncated_es")
    check_particles(num_particles)
    truncation.check_window(horizon, unroll_length)
    check_std(std)

    def init(key, theta):
        def pair(index):
            state_key, clock_key = jax.random.split(jax.random.fold_in(key, index))
            clock = truncation.start_clock(clock_key, horizon, stagger)
            return TruncatedESState(index, clock, problem.init(state_key, theta, clock.horizon))

        return jax.vmap(pair)(jnp.arange(num_particles, dtype=jnp.int32))

    def run(key, theta, state, data):
        """A pair's window: its slope, perturbation, losses of the two signs, and what it leaves behind."""
        reset_key, horizon_key, noise_key, step_key = jax.random.split(jax.random.fold_in(key, state.index), 4)
        noise = draw(noise_key, theta, std)
        thetas = jax.tree.map(lambda t, e: jnp.stack([t + e, t - e, t]), theta, noise)
        next_horizon = truncation.draw(horizon_key, horizon, state.clock.outer_step)
        fresh = jax.vmap(lambda t: problem.init(reset_key, t, next_horizon))(thetas)
        step = lambda key, states: jax.vmap(lambda t, s: problem.step(key, t, s, data))(thetas, states)
        states, clock, losses, _ = truncation.unroll(
            step,
            jax.tree.map(lambda x: jnp.stack([x, x, x]), state.states),
            state.clock,
            fresh,
            next_horizon,
            jax.random.split(step_key, unroll_length),
        )
        slope = jnp.mean(losses[:, 0] - losses[:, 1]) / (2 * std**2)
        unperturbed = jax.tree.map(lambda x: x[2], states)
        return slope, noise, losses[:, :2], TruncatedESState(state.index, clock, unperturbed)

    def estimate(key, theta, state, data, axis_name=None):
        slopes, noise, losses, state = cache_groups.vmap(lambda s: run(key, theta, s, data), state)
        gradients = antithetic.weigh(noise, antithetic.shape(shaping, slopes, std, axis_name))
        gradient, info, keep = mean_over_particles(
            gradients, jnp.mean(losses, axis=(1, 2)), 3 * unroll_length, axis_name, jnp.mean(losses, axis=2)
        )
        return gradient, state._replace(clock=truncation.end_unless(keep, state.clock)), info

    return Estimator(init, estimate, problem.data, num_particles, problem.name)
