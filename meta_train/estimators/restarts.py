"""Episodes that begin in the middle: a buffer of states to restart from, each with the perturbations that led to it.

ELO, https://arxiv.org/abs/2607.06772, restarts windows of persistent evolution strategies from a buffer of inner states
that carries the accumulated perturbation.

Deviations, as the abstract and the README of ELO were at hand: each pair has places of its own, which it fills at
random times and in turn.
"""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from meta_train.estimators.base import Estimator

_STREAM = 2**31 - 1  # sets the random numbers of the buffer apart from those of the estimator


class RestartsState(NamedTuple):
    """State of an estimator and of its buffer."""

    inner: Any  # the estimator's state
    kept: Any  # states of single particles, leaves [particles, size, …]
    count: jax.Array  # int32[particles], states kept so far, overwritten ones included


def restarts(estimator: Estimator, *, share: float = 0.5, size: int = 4, keep: float = 0.1) -> Estimator:
    """Makes some of the episodes restart from a state that was kept in the middle of an earlier one.

    Where an episode ends, the next one begins with probability `share` in a state that the particle went through
    before: parameters, optimizer state, the clock's step and horizon, and with `pes`, `nres` or `gpes` the accumulated
    perturbations that made it what it is. Late parts of episodes are then seen more often, and without the time to get
    there.

    What stays unbiased, and what does not, with `pes`, `nres` and `gpes`:

    - At fixed theta the estimate is unbiased for the loss at each step of the clock, because which state is drawn does
      not depend on its perturbations. A state that was restarted without its accumulator would lose the influence of
      theta on all steps before it.
    - The objective changes: steps count by how often they are visited, late ones more than early ones. The gradient is
      that of this weighted mean of losses, not of the mean of an episode.
    - As theta moves, a kept state ages: it shows where an earlier theta led to. Without a buffer that lag is an episode
      at most. With it, a place is overwritten after about `size / keep` windows, and a state may be kept again after a
      restart. Both lags vanish with the outer learning rate.
    - Estimates from one kept state share their perturbations. They are noisier together than as many fresh ones.

    Memory is that of the estimator's state times 1 + size.

    Args:
      estimator: one whose particles live from window to window: `pes`, `nres`, `gpes`, `truncated_es` or
        `truncated_backprop`. Where the buffer lies inside of `weighted_sum` or `normalized`, wrap this estimator in it.
      share: share of the episodes that begin in a kept state, from 0 to 1, as soon as the particle has one. 0 gives the
        estimates of the estimator, bit for bit.
      size: places for each particle, at least 1.
      keep: share of the windows after which the state is kept, from 0 to 1. States of episodes that have just ended, or
        were not finite, are not kept.

    Returns:
      An `Estimator`. An episode that is replaced in a window where it has begun loses the few steps that it has made.

    Raises:
      ValueError: if share, size or keep is out of range.
      TypeError: when its state is made, if the estimator's particles do not live from window to window.

    Example: after the first episode of four steps, all begin after two steps, so their mean step is 3.5.
      >>> from meta_train import Problem, estimators, truncation
      >>> problem = Problem(
      ...     init=lambda key, theta, num_steps: jnp.zeros(()),
      ...     step=lambda key, theta, state, data: (state + theta, state + theta),
      ... )
      >>> pes = estimators.pes(
      ...     problem, num_particles=1, unroll_length=2, horizon=truncation.constant(4), stagger=False)
      >>> estimator, theta = restarts(pes, share=1.0, keep=1.0), jnp.ones(())
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> estimate = jax.jit(estimator.estimate)
      >>> for step in range(4):
      ...     gradient, state, info = estimate(jax.random.key(step), theta, state, estimator.data)
      ...     print(round(float(info.loss), 3))
      1.5
      3.5
      3.5
      3.5

    References:
      ELO, https://arxiv.org/abs/2607.06772
    """
    for name, value in (("share", share), ("keep", keep)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must lie between 0 and 1, got {value}.")
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}.")

    def init(key, theta):
        inner = estimator.init(key, theta)
        if not {"index", "clock", "states"} <= set(getattr(inner, "_fields", ())):
            raise TypeError(
                f"restarts needs an estimator whose state has the fields index, clock and states, got a "
                f"{type(inner).__name__}: wrap pes, nres, gpes, truncated_es or truncated_backprop itself."
            )
        places = lambda x: jnp.broadcast_to(x[:, None], (x.shape[0], size, *x.shape[1:]))
        return RestartsState(inner, jax.tree.map(places, inner), jnp.zeros_like(inner.index))

    def exchange(key, before, now, kept, count):
        """What a particle goes on with, and its places in the buffer."""
        keep_key, place_key, share_key = jax.random.split(jax.random.fold_in(key, now.index), 3)
        # No window is longer than an episode, so the clock steps back if and only if one has begun inside of it.
        begun = (before.clock.step < before.clock.horizon) & (now.clock.step <= before.clock.step)
        ended = begun | (now.clock.step >= now.clock.horizon)

        place = jax.random.randint(place_key, (), 0, jnp.clip(count, 1, size), jnp.int32)
        old = jax.tree.map(lambda x: x[place], kept)
        old = old._replace(index=now.index, clock=old.clock._replace(outer_step=now.clock.outer_step))
        restart = ended & (count > 0) & jax.random.bernoulli(share_key, share)
        following = jax.tree.map(lambda new, old: jnp.where(restart, old, new), now, old)

        store = ~ended & jax.random.bernoulli(keep_key, keep)
        here = (jnp.arange(size, dtype=jnp.int32) == count % size) & store
        put = lambda places, x: jnp.where(jnp.expand_dims(here, range(1, x.ndim + 1)), x[None], places)
        return following, jax.tree.map(put, kept, now), count + store.astype(jnp.int32)

    def estimate(key, theta, state, data, axis_name=None):
        gradient, now, info = estimator.estimate(key, theta, state.inner, data, axis_name=axis_name)
        key = jax.random.fold_in(key, _STREAM)
        exchanged = jax.vmap(lambda *parts: exchange(key, *parts))(state.inner, now, state.kept, state.count)
        return gradient, RestartsState(*exchanged), info

    return estimator._replace(init=init, estimate=estimate)
