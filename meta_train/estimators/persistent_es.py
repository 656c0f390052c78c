"""Persistent evolution strategies: the estimator that PES, NRES and GPES share. They differ in their `NoisePolicy`.

Vicol, Metz, Sohl-Dickstein 2021, https://arxiv.org/abs/2112.13835; Li, Harrison, Sohl-Dickstein, Smith, Metz 2023,
https://arxiv.org/abs/2304.12180

Deviations: an episode may end inside of a window. The steps after the end run under the window's fresh perturbation,
which is the new episode's first. With staggered workers PES begins the very first episode of each, which is cut short,
in the state under theta itself: there, and nowhere else, the influence of theta on the first state is left out.
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
from meta_train.estimators.noise_policy import NoisePolicy
from meta_train.unroll import perturbations
from meta_train.unroll import truncation
from meta_train.unroll.capabilities import require_steps
from meta_train.unroll.perturbations import perturbation
from meta_train.unroll.problem import Problem
from meta_train.unroll.truncation import Clock
from meta_train.unroll.truncation import Horizon


class GPESState(NamedTuple):
    """State of the antithetic pairs."""

    index: jax.Array  # int32[pairs], number of the pair, part of its random keys
    clock: Clock  # of int32[pairs]
    states: Any  # the problem's state, leaves [pairs, 2, …]: under the positive and the negative perturbation
    accumulator: Any  # like theta with leading axis [pairs]: sum of the perturbations since the episode began
    noise: Any  # like the accumulator: the perturbation in use; () where the policy keeps none


class Window(NamedTuple):
    """What a pair's window gives."""

    before: jax.Array  # float[], slope from the steps before the episode's end, all steps if it goes on
    after: jax.Array  # float[], slope from the steps of the next episode
    total: jax.Array  # float[], slope from all steps
    drawn: Any  # like theta, the fresh perturbation
    renewed: Any  # bool[], whether the window began under the fresh perturbation
    losses: jax.Array  # float[unroll_length, 2], losses of the two signs


def persistent_es(
    problem: Problem,
    policy: NoisePolicy,
    name: str,
    *,
    num_particles: int,
    unroll_length: int,
    horizon: Horizon,
    std: float,
    stagger: bool,
    shaping: Shaping | None,
    draw: PerturbationFn = perturbation,
) -> Estimator:
    """Builds the estimator.

    Args:
      problem: what to differentiate; nothing needs to be differentiable.
      policy: when pairs draw new perturbations.
      name: the estimator's name, for errors.
      num_particles: antithetic pairs.
      unroll_length: window, in inner steps; at most the shortest episode.
      horizon: distribution of episode lengths.
      std: standard deviation of each perturbation, in units of theta; that of the policy.
      stagger: whether the pairs start at random offsets.
      shaping: an odd function of the pairs' loss differences, or None.
      draw: draws all perturbations but the very first, which is normal.

    Raises:
      TypeError: if the problem is a `Bilevel`.
      ValueError: if num_particles, unroll_length or std is out of range.
    """
    require_steps(problem, name)
    check_particles(num_particles)
    truncation.check_window(horizon, unroll_length)
    check_std(std)

    def init(key, theta):
        perturbations.check(theta)

        def pair(index):
            first = policy.first(jax.random.fold_in(key, index), theta)
            clock = truncation.start_clock(first.clock_key, horizon, stagger)
            # An episode of which no step is to be skipped begins in the first window, under its perturbation.
            clock = clock._replace(step=jnp.where(clock.step == 0, clock.horizon, clock.step))
            thetas = antithetic.pair(theta, first.accumulator)
            states = jax.vmap(lambda t: problem.init(first.state_key, t, clock.horizon))(thetas)
            return GPESState(index, clock, states, first.accumulator, first.noise)

        return jax.vmap(pair)(jnp.arange(num_particles, dtype=jnp.int32))

    run = _window(problem, policy, unroll_length, horizon, std, draw)

    def estimate(key, theta, state, data, axis_name=None):
        accumulator = state.accumulator
        window, state = cache_groups.vmap(lambda pair: run(key, theta, pair, data), state)
        before, after, total = window.before, window.after, window.total
        if shaping is not None:
            before, after = (antithetic.shape(shaping, part, std, axis_name) for part in (before, after))
            total = before + after
        # Losses are weighted by all perturbations that their episode has seen: the fresh one alone after the end.
        new = jnp.where(window.renewed, total, after)
        gradients = jax.tree.map(jnp.add, antithetic.weigh(accumulator, before), antithetic.weigh(window.drawn, new))
        losses = window.losses
        gradient, info, keep = mean_over_particles(
            gradients, jnp.mean(losses, axis=(1, 2)), 2 * unroll_length, axis_name, jnp.mean(losses, axis=2)
        )
        return gradient, state._replace(clock=truncation.end_unless(keep, state.clock)), info

    return Estimator(init, estimate, problem.data, num_particles, problem.name)


def _window(problem, policy, unroll_length, horizon, std, draw):
    """Runs a pair's window: `(key, theta, state, data) -> (Window, state)`."""

    def run(key, theta, state, data):
        reset_key, horizon_key, noise_key, step_key = jax.random.split(jax.random.fold_in(key, state.index), 4)
        drawn = draw(noise_key, theta, std)
        noise, renewed = policy.at_window(state.clock.step, state.accumulator, state.noise, drawn)
        thetas, next_thetas = antithetic.pair(theta, noise), antithetic.pair(theta, drawn)
        next_horizon = truncation.draw(horizon_key, horizon, state.clock.outer_step)
        fresh = jax.vmap(lambda t: problem.init(reset_key, t, next_horizon))(next_thetas)

        def step(key, carry):
            carried, states = carry
            perturbed = policy.in_use(thetas, carried)
            states, losses = jax.vmap(lambda t, s: problem.step(key, t, s, data))(perturbed, states)
            return (carried, states), losses

        (_, states), clock, losses, restarted = truncation.unroll(
            step,
            (policy.carry(thetas), state.states),
            state.clock,
            (policy.carry(next_thetas), fresh),
            next_horizon,
            jax.random.split(step_key, unroll_length),
        )
        slopes = (losses[:, 0] - losses[:, 1]) / (2 * std**2 * unroll_length)
        before, after, total = (
            jnp.sum(x) for x in (jnp.where(restarted, 0, slopes), jnp.where(restarted, slopes, 0), slopes)
        )
        ended = restarted[-1]
        after_end = lambda old: jax.tree.map(lambda a, e: jnp.where(ended, e, a), old, drawn)
        sums = jax.tree.map(lambda a, e: jnp.where(renewed, a + e, a), state.accumulator, drawn)
        state = GPESState(state.index, clock, states, after_end(sums), policy.keep(after_end(noise)))
        return Window(before, after, total, drawn, renewed, losses), state

    return run
