"""Generalized persistent evolution strategies: perturbations that last longer than a window.

Li, Harrison, Sohl-Dickstein, Smith, Metz 2023, "Noise-Reuse in Online Evolution Strategies",
https://arxiv.org/abs/2304.12180

PES draws a perturbation for every window, NRES one for every episode; this is the family between them, and both are
built here.

Deviations: an episode may end inside of a window. The steps after the end run under the window's fresh perturbation,
which is the new episode's first. Perturbations change at the beginning of windows and of episodes only, and none lasts
longer than the period: the first of an episode that began inside of a window is shorter by what the window had left.
"""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from meta_train.estimators import antithetic
from meta_train.estimators import base
from meta_train.estimators.antithetic import Shaping
from meta_train.estimators.base import Estimator
from meta_train.estimators.base import check_particles
from meta_train.estimators.base import check_std
from meta_train.estimators.base import mean_over_particles
from meta_train.unroll import truncation
from meta_train.unroll.capabilities import require_steps
from meta_train.unroll.problem import Problem
from meta_train.unroll.truncation import Clock
from meta_train.unroll.truncation import Horizon


class GPESState(NamedTuple):
    """State of the antithetic pairs."""

    index: jax.Array  # int32[pairs], number of the pair, part of its random keys
    clock: Clock  # of int32[pairs]
    states: Any  # the problem's state, leaves [pairs, 2, …]: under the positive and the negative perturbation
    accumulator: Any  # like theta with leading axis [pairs]: sum of the perturbations since the episode began
    noise: Any  # the same: the perturbation in use; () with one a window, or one an episode, which is the accumulator


def gpes(
    problem: Problem,
    *,
    num_particles: int,
    unroll_length: int,
    noise_period: int | None,
    horizon: Horizon,
    std: float = 0.01,
    stagger: bool = True,
    shaping: Shaping | None = None,
) -> Estimator:
    r"""Builds the GPES estimator with antithetic pairs.

    .. math:: \hat g = \frac{1}{2 \sigma^2 N K} \sum_{i=1}^{N} \sum_{t=1}^{K} \xi_{i,t} \, (L_{i,t}^+ - L_{i,t}^-)

    where a pair's two states live on from window to window, each under its own sign of the perturbation in use, and
    :math:`\xi_{i,t}` is the sum of the perturbations that its episode has seen up to the step. It is unbiased for the
    gradient of the mean loss per step under Gaussian smoothing of theta, whatever the period. Where the loss is about
    linear in the perturbations, the variance falls as the period grows; short periods see more of theta's surroundings.

    Args:
      problem: what to differentiate; nothing needs to be differentiable.
      num_particles: antithetic pairs N. Memory is linear in it, and independent of the horizon.
      unroll_length: window K, in inner steps; at most the shortest episode.
      noise_period: inner steps for which a perturbation is kept, a multiple of unroll_length; None keeps it for the
        whole episode.
      horizon: distribution of episode lengths.
      std: standard deviation of each perturbation, in units of theta.
      stagger: whether the pairs start at random offsets.
      shaping: an odd function of the pairs' loss differences, float[pairs] -> float[pairs], that gets those of all
        devices: `jnp.sign`, `antithetic.centered_ranks`. It keeps single pairs from outweighing the others, and biases
        the gradient: its scale is lost, and where the loss is not linear its direction follows the usual sign of a
        difference and not its mean. The parts of a window before and after an episode's end are shaped apart.

    Returns:
      An `Estimator`.

    Raises:
      ValueError: if num_particles, unroll_length, noise_period or std is out of range.

    Example: the gradient of the mean of (theta * step) over 8 steps is 4.5.
      >>> import jax, jax.numpy as jnp
      >>> from meta_train import Problem, truncation
      >>> problem = Problem(
      ...     init=lambda key, theta, num_steps: jnp.zeros(()),
      ...     step=lambda key, theta, state, data: (state + theta, state + theta),
      ... )
      >>> estimator = gpes(
      ...     problem, num_particles=1000, unroll_length=2, noise_period=4, horizon=truncation.constant(8))
      >>> theta, estimate = jnp.zeros(()), jax.jit(estimator.estimate)
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> gradients = []
      >>> for step in range(40):
      ...     gradient, state, info = estimate(jax.random.key(step), theta, state, estimator.data)
      ...     gradients.append(float(gradient))
      >>> abs(sum(gradients) / len(gradients) - 4.5) < 0.2
      True

    References:
      Li et al. 2023, https://arxiv.org/abs/2304.12180
    """
    require_steps(problem, "gpes")
    check_particles(num_particles)
    truncation.check_window(horizon, unroll_length)
    check_std(std)
    if noise_period is not None and (noise_period < 1 or noise_period % unroll_length):
        raise ValueError(
            f"noise_period must be a multiple of unroll_length={unroll_length}, got {noise_period}: give whole "
            "windows, or None for the whole episode."
        )
    every_window, whole_episode = noise_period == unroll_length, noise_period is None
    between = not (every_window or whole_episode)

    def init(key, theta):
        def pair(index):
            # One draw a window needs no noise of its own, as the first window brings it.
            state_key, clock_key, *noise_key = jax.random.split(jax.random.fold_in(key, index), 2 + (not every_window))
            clock = truncation.start_clock(clock_key, horizon, stagger)
            state = problem.init(state_key, theta, clock.horizon)
            states = jax.tree.map(lambda x: jnp.stack([x, x]), state)
            first = optax.tree.zeros_like(theta) if every_window else base.perturbation(*noise_key, theta, std)
            return GPESState(index, clock, states, first, first if between else ())

        return jax.vmap(pair)(jnp.arange(num_particles, dtype=jnp.int32))

    def begin(state, drawn):
        """The perturbation at a window's start, and whether it is the one just drawn."""
        if every_window:
            return drawn, True
        if whole_episode:
            return state.accumulator, False
        last = state.clock.step - 1
        renewed = (last + unroll_length) // noise_period != jnp.maximum(last, 0) // noise_period
        return jax.tree.map(lambda new, old: jnp.where(renewed, new, old), drawn, state.noise), renewed

    def run(key, theta, state, data):
        """A pair's window: its slopes before the episode's end, after it and in all, and what it leaves behind."""
        reset_key, horizon_key, noise_key, step_key = jax.random.split(jax.random.fold_in(key, state.index), 4)
        drawn = base.perturbation(noise_key, theta, std)
        noise, renewed = begin(state, drawn)
        thetas, next_thetas = antithetic.pair(theta, noise), antithetic.pair(theta, drawn)
        next_horizon = truncation.draw(horizon_key, horizon, state.clock.outer_step)
        fresh = jax.vmap(lambda t: problem.init(reset_key, t, next_horizon))(next_thetas)
        # Theta travels with the state, to change at the episode's end; with one draw a window it does not change.
        travel = (lambda t: ()) if every_window else (lambda t: t)

        def step(key, carry):
            traveller, states = carry
            perturbed = thetas if every_window else traveller
            states, losses = jax.vmap(lambda t, s: problem.step(key, t, s, data))(perturbed, states)
            return (traveller, states), losses

        (_, states), clock, losses, restarted = truncation.unroll(
            step,
            (travel(thetas), state.states),
            state.clock,
            (travel(next_thetas), fresh),
            next_horizon,
            jax.random.split(step_key, unroll_length),
        )
        slopes = (losses[:, 0] - losses[:, 1]) / (2 * std**2 * unroll_length)
        parts = [jnp.sum(x) for x in (jnp.where(restarted, 0, slopes), jnp.where(restarted, slopes, 0), slopes)]
        ended = restarted[-1]
        keep = lambda old: jax.tree.map(lambda a, e: jnp.where(ended, e, a), old, drawn)
        sums = jax.tree.map(lambda a, e: jnp.where(renewed, a + e, a), state.accumulator, drawn)
        state = GPESState(state.index, clock, states, keep(sums), keep(noise) if between else ())
        return parts, (drawn, renewed), losses, state

    def estimate(key, theta, state, data, axis_name=None):
        accumulator = state.accumulator
        parts, (drawn, renewed), losses, state = jax.vmap(lambda s: run(key, theta, s, data))(state)
        before, after, total = parts
        if shaping is not None:
            before, after = (antithetic.shape(shaping, part, std, axis_name) for part in (before, after))
            total = before + after
        new = jnp.where(renewed, total, after)
        gradients = jax.tree.map(jnp.add, antithetic.weigh(accumulator, before), antithetic.weigh(drawn, new))
        gradient, info, keep = mean_over_particles(
            gradients, jnp.mean(losses, axis=(1, 2)), 2 * unroll_length, axis_name, jnp.mean(losses, axis=2)
        )
        return gradient, state._replace(clock=truncation.end_unless(keep, state.clock)), info

    return Estimator(init, estimate, problem.data, num_particles, problem.name)
