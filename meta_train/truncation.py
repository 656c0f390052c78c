"""Truncated episodes: how long they last, and unrolling them one window at a time.

An outer step sees only a window of `unroll_length` inner steps of each worker's episode. Where an episode ends inside
of a window, the next one begins there.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Horizon(NamedTuple):
    """A distribution of episode lengths, in inner steps.

    Fields:
      sample: `(key) -> int32[]`.
      low, high: the shortest and the longest length that `sample` gives.
    """

    sample: Callable[[jax.Array], jax.Array]
    low: int
    high: int


class Clock(NamedTuple):
    """Where a worker stands in its episode."""

    step: jax.Array  # int32[], steps made since the episode began
    horizon: jax.Array  # int32[], steps after which it ends


def constant(num_steps: int) -> Horizon:
    """Episodes of `num_steps` inner steps each.

    Raises:
      ValueError: if num_steps is below 1.

    Example:
      >>> constant(100).high
      100
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}.")
    return Horizon(lambda key: jnp.asarray(num_steps, jnp.int32), num_steps, num_steps)


def log_uniform(low: int, high: int) -> Horizon:
    """Episode lengths whose logarithm is uniform between those of `low` and `high` inner steps, both included.

    Raises:
      ValueError: unless 1 <= low <= high.

    Example:
      >>> import jax
      >>> 100 <= log_uniform(100, 1000).sample(jax.random.key(0)) <= 1000
      Array(True, dtype=bool)
    """
    if not 1 <= low <= high:
        raise ValueError(f"a log-uniform horizon needs 1 <= low <= high, got low={low} and high={high}.")

    def sample(key):
        exponent = jax.random.uniform(key, (), jnp.float32, jnp.log(low - 0.5), jnp.log(high + 0.5))
        return jnp.clip(jnp.round(jnp.exp(exponent)), low, high).astype(jnp.int32)

    return Horizon(sample, low, high)


def check_window(horizon: Horizon, unroll_length: int) -> None:
    """Raises ValueError unless every episode is at least as long as a window, so that a window sees one end at most."""
    if not 1 <= unroll_length <= horizon.low:
        raise ValueError(
            f"unroll_length must lie between 1 and the shortest episode, {horizon.low} steps, got {unroll_length}: "
            "shorten the window or lengthen the horizon."
        )


def start_clock(key: jax.Array, horizon: Horizon, stagger: bool) -> Clock:
    """The clock of a worker's first episode. With `stagger` it begins at a uniformly drawn step of its horizon.

    Staggered workers end their episodes at different times ("step-unlocked"), so that at every outer step the windows
    cover all phases of training. Only the first episode is cut short by it.
    """
    length_key, offset_key = jax.random.split(key)
    length = horizon.sample(length_key)
    offset = jax.random.randint(offset_key, (), 0, length, jnp.int32)
    return Clock(offset if stagger else jnp.zeros_like(length), length)


def end_unless(keep: jax.Array, clock: Clock) -> Clock:
    """Lets the episodes of the workers that are not kept end, so that their next window begins a new one."""
    return Clock(jnp.where(keep, clock.step, clock.horizon), clock.horizon)


def unroll(
    step: Callable[[jax.Array, Any], tuple[Any, jax.Array]],
    state: Any,
    clock: Clock,
    fresh: Any,
    next_horizon: jax.Array,
    keys: jax.Array,
) -> tuple[Any, Clock, jax.Array, jax.Array]:
    """Runs a window of steps, one per key. Where the episode ends, the state is replaced by `fresh`.

    Args:
      step: `(key, state) -> (state, loss)`.
      state, clock: where the worker stands.
      fresh: the first state of the next episode, and `next_horizon` its length.
      keys: key[unroll_length]; the window must not be longer than any episode.

    Returns:
      `(state, clock, losses, restarted)`: the losses with leading axis unroll_length, and bool[unroll_length], true
      for the steps that belong to the next episode.
    """

    def body(carry, key):
        state, clock, restarted = carry
        ended = clock.step >= clock.horizon
        state = jax.tree.map(lambda new, old: jnp.where(ended, new, old), fresh, state)
        clock = Clock(jnp.where(ended, 0, clock.step), jnp.where(ended, next_horizon, clock.horizon))
        restarted = restarted | ended
        state, loss = step(key, state)
        return (state, Clock(clock.step + 1, clock.horizon), restarted), (loss, restarted)

    (state, clock, _), (losses, restarted) = jax.lax.scan(body, (state, clock, jnp.asarray(False)), keys)
    return state, clock, losses, restarted
