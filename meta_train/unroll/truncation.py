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
      sample: `(key) -> int32[]`, or `(key, outer_step) -> int32[]` if `grows`.
      low, high: the shortest and the longest length that `sample` gives, at any outer step.
      grows: whether the lengths depend on the outer step, an int32 scalar.
    """

    sample: Callable[..., jax.Array]
    low: int
    high: int
    grows: bool = False


class Clock(NamedTuple):
    """Where a worker stands in its episode."""

    step: jax.Array  # int32[], steps made since the episode began
    horizon: jax.Array  # int32[], steps after which it ends
    outer_step: Any = ()  # int32[], windows that the worker has made, where the horizon grows; else ()


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
    """Episode lengths between `low` and `high` inner steps, both included, with a uniform logarithm.

    Raises:
      ValueError: unless 1 <= low <= high.

    Example:
      >>> import jax
      >>> 100 <= log_uniform(100, 1000).sample(jax.random.key(0)) <= 1000
      Array(True, dtype=bool)
    """
    if not 1 <= low <= high:
        raise ValueError(f"a log-uniform horizon needs 1 <= low <= high, got low={low} and high={high}.")

    return Horizon(lambda key: _log_uniform(key, low, high), low, high)


def power_law(low: int, high: int, exponent: float) -> Horizon:
    r"""Episode lengths T between `low` and `high` inner steps, both included, with a density of T to `-exponent`.

    1 is `log_uniform`. As the inner steps of an episode grow with its length, an exponent of 2 spends as many of them
    on episodes of 100 to 200 steps as on those of 1,000 to 2,000.

    Args:
      low: the shortest length.
      high: the longest one.
      exponent: at least 0; the larger, the rarer are long episodes.

    Raises:
      ValueError: unless 1 <= low <= high and exponent >= 0.

    Example:
      >>> import jax
      >>> lengths = jax.vmap(power_law(100, 1000, 2.0).sample)(jax.random.split(jax.random.key(0), 1000))
      >>> 150 < jnp.median(lengths) < 220
      Array(True, dtype=bool)
    """
    if not 1 <= low <= high:
        raise ValueError(f"a power-law horizon needs 1 <= low <= high, got low={low} and high={high}.")
    if not exponent >= 0:
        raise ValueError(f"exponent must be at least 0, got {exponent}: 0 is uniform, 1 log-uniform, 2 favors short.")
    rest = 1.0 - exponent
    if abs(rest) < 1e-3:
        return log_uniform(low, high)

    def sample(key):
        share = jax.random.uniform(key)  # the inverse of the distribution function, relative to low
        length = low * (1.0 + share * ((high / low) ** rest - 1.0)) ** (1.0 / rest)
        return jnp.clip(jnp.round(length), low, high).astype(jnp.int32)

    return Horizon(sample, low, high)


def growing(low: int, high: int, num_steps: int) -> Horizon:
    """Episodes that grow: log-uniform between `low` and a cap, which goes from `low` to `high` as training goes on.

    The cap is `low * (high / low) ** (outer_step / num_steps)` up to outer step `num_steps`, then `high`. Short
    episodes at first save inner steps, and avoid exploding gradients, while theta is bad. An episode keeps the length
    that it began with.

    Args:
      low: the shortest length, in inner steps, and the only one at outer step 0.
      high: the longest one.
      num_steps: number of *outer* steps after which the cap is `high`; not the length of an episode.

    Raises:
      ValueError: unless 1 <= low <= high and num_steps >= 1.

    Example:
      >>> import jax
      >>> horizon = growing(10, 1000, num_steps=500)
      >>> int(horizon.sample(jax.random.key(0), 0))
      10
      >>> 10 <= horizon.sample(jax.random.key(0), 250) <= 100
      Array(True, dtype=bool)
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}.")
    if not 1 <= low <= high:
        raise ValueError(f"a growing horizon needs 1 <= low <= high, got low={low} and high={high}.")

    def sample(key, outer_step):
        progress = jnp.minimum(jnp.asarray(outer_step, jnp.float32) / num_steps, 1.0)
        cap = jnp.round(low * jnp.exp(progress * jnp.log(high / low)))
        return _log_uniform(key, low, cap)

    return Horizon(sample, low, high, grows=True)


def draw(key: jax.Array, horizon: Horizon, outer_step: Any) -> jax.Array:
    """An episode's length, int32[]. `outer_step` is a counter as `start_count` makes it."""
    return horizon.sample(key, outer_step) if horizon.grows else horizon.sample(key)


def check_window(horizon: Horizon, unroll_length: int) -> None:
    """Raises ValueError unless every episode is at least as long as a window, so that a window sees one end at most."""
    if not 1 <= unroll_length <= horizon.low:
        raise ValueError(
            f"unroll_length must lie between 1 and the shortest episode, {horizon.low} steps, got {unroll_length}: "
            "shorten the window or lengthen the horizon."
        )


def start_count(horizon: Horizon) -> Any:
    """A counter of outer steps for an estimator's state: int32[] at 0 if the horizon grows, else ()."""
    return jnp.zeros((), jnp.int32) if horizon.grows else ()


def next_count(outer_step: Any) -> Any:
    """The counter after an outer step."""
    return jax.tree.map(lambda n: n + 1, outer_step)


def start_clock(key: jax.Array, horizon: Horizon, stagger: bool) -> Clock:
    """The clock of a worker's first episode. With `stagger` it begins at a uniformly drawn step of its horizon.

    Staggered workers end their episodes at different times ("step-unlocked"), so that at every outer step the windows
    cover all phases of training. Only the first episode is cut short by it.
    """
    length_key, offset_key = jax.random.split(key)
    outer_step = start_count(horizon)
    length = draw(length_key, horizon, outer_step)
    offset = jax.random.randint(offset_key, (), 0, length, jnp.int32)
    return Clock(offset if stagger else jnp.zeros_like(length), length, outer_step)


def end_unless(keep: jax.Array, clock: Clock) -> Clock:
    """Lets the episodes of the workers that are not kept end, so that their next window begins a new one."""
    return clock._replace(step=jnp.where(keep, clock.step, clock.horizon))


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
        step_of, length = jnp.where(ended, 0, clock.step), jnp.where(ended, next_horizon, clock.horizon)
        restarted = restarted | ended
        state, loss = step(key, state)
        return (state, clock._replace(step=step_of + 1, horizon=length), restarted), (loss, restarted)

    (state, clock, _), (losses, restarted) = jax.lax.scan(body, (state, clock, jnp.asarray(False)), keys)
    return state, clock._replace(outer_step=next_count(clock.outer_step)), losses, restarted


def _log_uniform(key, low, high):
    """A length whose logarithm is uniform on log(low − 1/2) … log(high + 1/2), rounded, int32[]."""
    exponent = jax.random.uniform(key, (), jnp.float32, jnp.log(low - 0.5), jnp.log(high + 0.5))
    return jnp.clip(jnp.round(jnp.exp(exponent)), low, high).astype(jnp.int32)
