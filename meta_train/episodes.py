"""Whole episodes: what estimators share that run every episode from its first step to its last in one outer step."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from meta_train import truncation
from meta_train.truncation import Horizon


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


def run(
    step: Callable[[jax.Array, Any], tuple[Any, jax.Array]],
    state: Any,
    num_steps: jax.Array,
    max_steps: int,
    key: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Runs an episode; its memory is that of a state, and 4 bytes for each step's loss.

    Args:
      step: `(key, state) -> (state, loss)`; loss may have any shape.
      state: where the episode begins.
      num_steps: int32[], its length. Under vmap the loop ends with the longest one.
      max_steps: the longest length possible.
      key: of the episode; each step gets its own by `fold_in`, so that keys need no memory.

    Returns:
      `(mean, losses)`: the mean loss of the num_steps steps, through which forward-mode derivatives go, and all of them
      with leading axis max_steps, without derivative; NaN from num_steps on.
    """
    shape = jax.eval_shape(step, key, state)[1]

    def body(carry):
        time, state, total, losses = carry
        state, loss = step(jax.random.fold_in(key, time), state)
        return time + 1, state, total + loss, losses.at[time].set(jax.lax.stop_gradient(loss))

    losses = jnp.full((max_steps, *shape.shape), jnp.nan, shape.dtype)
    carry = (jnp.zeros((), jnp.int32), state, jnp.zeros(shape.shape, shape.dtype), losses)
    _, _, total, losses = jax.lax.while_loop(lambda carry: carry[0] < num_steps, body, carry)
    return total / num_steps.astype(shape.dtype), losses
