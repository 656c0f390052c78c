"""Whole episodes: the part shared by estimators that run each episode from start to end in one outer step."""

from collections.abc import Callable
import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from meta_train.unroll import truncation
from meta_train.unroll.problem import Problem
from meta_train.unroll.truncation import Horizon


class EpisodesState(NamedTuple):
    """State of the particles: nothing of an episode outlives its outer step."""

    index: jax.Array  # int32[particles], number of the particle, part of its random keys
    outer_step: Any  # int32[particles], outer steps made, where the horizon grows; else ()


def start(horizon: Horizon, num_particles: int) -> EpisodesState:
    """The state before the first outer step."""
    particle = lambda index: EpisodesState(index, truncation.start_count(horizon))
    return jax.vmap(particle)(jnp.arange(num_particles, dtype=jnp.int32))


def following(state: EpisodesState) -> EpisodesState:
    """The state after an outer step."""
    return state._replace(outer_step=truncation.next_count(state.outer_step))


def begin(key: jax.Array, state: EpisodesState, horizon: Horizon) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A particle's episode in this outer step: `(num_steps int32[], key of the episode, key for a perturbation)`."""
    horizon_key, noise_key, episode_key = jax.random.split(jax.random.fold_in(key, state.index), 3)
    return truncation.draw(horizon_key, horizon, state.outer_step), episode_key, noise_key


def split(key: jax.Array) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
    """Splits an episode's key into the key of its first state and a function from a step's number to the step's key.

    `fold_in` makes the keys of the steps, so that they need no memory that grows with the episode.
    """
    init_key, steps_key = jax.random.split(key)
    return init_key, lambda time: jax.random.fold_in(steps_key, time)


def mean_loss(
    problem: Problem, key: jax.Array, theta: Any, num_steps: jax.Array, max_steps: int, data: Any
) -> tuple[jax.Array, jax.Array]:
    """Runs an episode; its memory is that of one state, and of a number for each step's loss.

    Args:
      problem: what to run.
      key: of the episode.
      theta: meta-parameters.
      num_steps: int32[], the episode's length. Under vmap the loop ends with the longest one.
      max_steps: the longest length possible.
      data: the problem's data.

    Returns:
      `(mean, losses)`: the mean loss of the num_steps steps, through which forward-mode derivatives go, and losses
      float[max_steps] without derivative, NaN from num_steps on.
    """
    init_key, step_key = split(key)
    state = problem.init(init_key, theta, num_steps)
    _, total, losses = run(problem, step_key, theta, state, num_steps, max_steps, data)
    return total / num_steps.astype(total.dtype), losses


def run(
    problem: Problem,
    step_key: Callable[[jax.Array], jax.Array],
    theta: Any,
    state: Any,
    num_steps: jax.Array,
    max_steps: int,
    data: Any,
) -> tuple[Any, jax.Array, jax.Array]:
    """Makes the first steps of an episode; forward mode goes through it, reverse mode does not.

    Args:
      problem, theta, data: as of `mean_loss`.
      step_key: from a step's number to its key.
      state: the first one.
      num_steps: int32[], how many. Under vmap the loop ends with the largest.
      max_steps: the largest number possible.

    Returns:
      `(state, total, losses)`: the last state, the sum of the losses, and losses float[max_steps] without derivative,
      NaN from num_steps on.
    """
    dtype = jax.eval_shape(problem.step, step_key(jnp.int32(0)), theta, state, data)[1].dtype

    def body(carry):
        time, state, total, losses = carry
        state, loss = problem.step(step_key(time), theta, state, data)
        return time + 1, state, total + loss, losses.at[time].set(jax.lax.stop_gradient(loss))

    carry = (jnp.zeros((), jnp.int32), state, jnp.zeros((), dtype), jnp.full((max_steps,), jnp.nan, dtype))
    return jax.lax.while_loop(lambda carry: carry[0] < num_steps, body, carry)[1:]


def run_differentiably(
    step: Callable[[jax.Array, Any], tuple[Any, jax.Array]],
    state: Any,
    start: int | jax.Array,
    num_steps: jax.Array,
    max_steps: int,
    *,
    rematerialize: bool = True,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Makes steps of an episode that reverse mode goes through.

    Args:
      step: `(time, state) -> (state, loss)`.
      state: the one before `start`.
      start: number of the first step.
      num_steps: int32[], the episode ends before the step of this number.
      max_steps: how many steps are run, those after the end in vain.
      rematerialize: whether only the states between about √max_steps segments are kept, and steps are run twice.

    Returns:
      `(total, times, losses)`: the sum of the losses, the numbers of the steps, and their losses without derivative,
      NaN after the episode's end.
    """
    length = math.isqrt(max_steps - 1) + 1 if rematerialize else max_steps  # steps in a segment

    def body(state, time):
        following, loss = step(time, state)
        made = time < num_steps
        state = jax.tree.map(lambda new, old: jnp.where(made, new, old), following, state)
        return state, (jnp.where(made, loss, 0), jnp.where(made, jax.lax.stop_gradient(loss), jnp.nan))

    segment = lambda state, times: jax.lax.scan(body, state, times)
    if rematerialize:
        segment = jax.checkpoint(segment, prevent_cse=False)  # a loop keeps the two runs apart as it is
    times = start + jnp.arange(-(-max_steps // length) * length, dtype=jnp.int32)
    _, (counted, losses) = jax.lax.scan(segment, state, times.reshape(-1, length))
    return jnp.sum(counted), times, losses.ravel()
