"""The data of an episode, for problems that draw it anew in each: `Bilevel.sample`."""

from typing import Any
from typing import NamedTuple

import jax

from meta_train.unroll.problem import Problem
from meta_train.unroll.problem import SampleFn


class SampledState(NamedTuple):
    """State of `keep_episode`."""

    inner: Any  # the first problem's state
    episode_key: jax.Array  # key[], draws the episode's data


def draw(key: jax.Array, sample: SampleFn | None, data: Any) -> tuple[jax.Array, Any]:
    """Draws an episode's data, if there is something to draw.

    Args:
      key: random key of the episode.
      sample: `(key, data) -> data of an episode`, or None.
      data: what it draws from.

    Returns:
      `(key, data)`: a key for the rest of the episode, and the episode's data. Without sample, both as they came.

    Example:
      >>> key, shift = draw(jax.random.key(0), lambda key, data: data + jax.random.uniform(key), 3.0)
      >>> 3.0 <= float(shift) < 4.0
      True
      >>> draw(0, None, 3.0)
      (0, 3.0)
    """
    if sample is None:
        return key, data
    key, episode_key = jax.random.split(key)
    return key, sample(episode_key, data)


def keep_episode(problem: Problem, sample: SampleFn | None) -> Problem:
    """Gives each step of a problem the data of its episode.

    A problem's first state is made without data. So the state keeps the episode's key, and each step draws the same
    data from it again: a gather, which is cheap beside a gradient.

    Args:
      problem: a problem whose steps read an episode's data.
      sample: `(key, data) -> data of an episode`. None returns the problem.

    Returns:
      The `Problem` whose state is a `SampledState` and whose steps read `problem.data`.

    Example: the episode's data is a number, which each step returns.
      >>> echo = Problem(lambda key, theta, num_steps: (), lambda key, theta, state, data: (state, data))
      >>> problem = keep_episode(echo, lambda key, data: jax.random.uniform(key))
      >>> state = problem.init(jax.random.key(0), None, 2)
      >>> state, first = problem.step(jax.random.key(1), None, state, ())
      >>> state, second = problem.step(jax.random.key(2), None, state, ())
      >>> bool(first == second)
      True
    """
    if sample is None:
        return problem

    def init(key, theta, num_steps):
        key, episode_key = jax.random.split(key)
        return SampledState(problem.init(key, theta, num_steps), episode_key)

    def step(key, theta, state, data):
        inner, loss = problem.step(key, theta, state.inner, sample(state.episode_key, data))
        return SampledState(inner, state.episode_key), loss

    return problem._replace(init=init, step=step)
