"""Features of a whole run or of a whole tensor. A recurrent network turns them into controls of per-parameter rules.

`schedule` computes the features that VeLO and Celo share: the progress through the run, and how the loss has changed on
time scales from 10 steps to the whole run.

Metz, Harrison, Freeman, Merchant, Beyer, Bradbury, Agrawal, Poole, Mordatch, Roberts, Sohl-Dickstein 2022, "VeLO:
Training Versatile Learned Optimizers by Scaling Up", https://arxiv.org/abs/2211.09760

The features equal those of the authors' released code. Deviations:
- If the number of steps or the loss is not known, learned constants replace the features that depend on it. The
  released code requires both. The loss features depend on the number of steps, which sets their time scales.
- The loss is clipped to ±1e30, and a loss that is not finite is replaced, so that features stay finite.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_optim.networks import LSTMState

PROGRESS_MARKS = (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)  # fractions of the run
NUM_LOSS_AVERAGES = 10
NUM_LOSS_FEATURES = NUM_LOSS_AVERAGES - 1
NUM_SCHEDULE_FEATURES = len(PROGRESS_MARKS) + NUM_LOSS_FEATURES
MAX_LOSS = 1e30  # losses are clipped to ± this, so that averages and differences stay finite
_FIRST_LOWEST = 999999999999.0


class LossAverages(NamedTuple):
    """Moving averages of the loss on ten time scales."""

    count: jax.Array  # float32[], number of losses seen so far
    mean: jax.Array  # float32[10], bias-corrected averages
    lowest: jax.Array  # float32[10], the lowest value of each average so far
    latest: jax.Array  # float32[], the last loss that was finite


class RecurrentState(NamedTuple):
    """State of a recurrent network on the features of `schedule`: the state that all tensors of VeLO and Celo share."""

    lstm: LSTMState  # float32[n, size] each; a row for each tensor, or one row for all
    loss: LossAverages


def init_loss_averages(*, plain_bound: bool = False) -> LossAverages:
    """The averages before the first loss. `plain_bound` is that of `schedule`."""
    first = MAX_LOSS if plain_bound else _FIRST_LOWEST
    zero, lowest = jnp.zeros((), jnp.float32), jnp.full((NUM_LOSS_AVERAGES,), first, jnp.float32)
    return LossAverages(zero, jnp.zeros((NUM_LOSS_AVERAGES,), jnp.float32), lowest, zero)


def init_unknown() -> dict[str, jax.Array]:
    """Initial theta: the constants that replace progress and loss features if these are not known."""
    return {
        "progress": jnp.zeros((len(PROGRESS_MARKS),), jnp.float32),
        "loss": jnp.zeros((NUM_LOSS_FEATURES,), jnp.float32),
    }


def init_lstm_state(size: int) -> dict[str, jax.Array]:
    """Initial theta: the initial state of an LSTM, the same for all rows."""
    return {"hidden": jnp.zeros((size,), jnp.float32), "cell": jnp.zeros((size,), jnp.float32)}


def first_lstm_state(theta: Mapping[str, jax.Array], num_rows: int) -> LSTMState:
    """The state at the first update. `theta` has the entries of `init_lstm_state`."""
    rows = lambda x: jnp.broadcast_to(x, (num_rows, *x.shape))
    return LSTMState(rows(theta["hidden"]), rows(theta["cell"]))


def first_recurrent_state(
    theta: Mapping[str, jax.Array], num_rows: int, *, plain_bound: bool = False
) -> RecurrentState:
    """The state at the first update. `theta` has the entries of `init_lstm_state`."""
    return RecurrentState(first_lstm_state(theta, num_rows), init_loss_averages(plain_bound=plain_bound))


def log_magnitude(x: jax.Array) -> jax.Array:
    """`log(1e-8 + |x|)`, clipped to ±5."""
    return jnp.clip(jnp.log(1e-8 + jnp.abs(x)), -5.0, 5.0)


def without_nan(x: jax.Array) -> jax.Array:
    """Replaces NaN by 0. In inputs of a network that mixes tensors this keeps a NaN from reaching other tensors."""
    return jnp.where(jnp.isnan(x), 0.0, x)


def schedule(
    step: jax.Array,
    horizon: jax.Array,
    loss: jax.Array | None,
    averages: LossAverages,
    unknown: Mapping[str, jax.Array],
    *,
    plain_bound: bool = False,
    equal_averages: bool = False,
) -> tuple[jax.Array, LossAverages]:
    """Computes nine features of the progress and nine of the loss.

    A progress feature is `tanh(10 * (step / horizon - mark))`; there is one for each of the nine marks. The time
    constants of the ten averages of the loss form a geometric sequence from 10 steps to the horizon. A loss feature
    compares a bias-corrected average a with the next slower average b: it is `clip((a - low) / (b - low) - 1, -1, 1)`
    with the lowest a so far, and 0 for the first two losses.

    A loss is at most twice the largest average; larger values are clipped. In this bound, as in the released code, the
    sums of n losses are divided by the total weight of n + 1, which makes it lower than twice the largest average while
    there are few losses. A loss that is not finite is replaced by the last finite one. If there was none, the loss is
    not known.

    Args:
      step: number of updates made so far, float32[].
      horizon: planned number of updates, float32[], 0 if it is not known.
      loss: float32[] of any size and sign, or None if it is not known.
      averages: `init_loss_averages()` at first, then the averages that the previous call returned.
      unknown: learned constants, with the entries of `init_unknown`. "progress" replaces the progress features if the
        horizon is not known, "loss" the loss features if the horizon or the loss is not known. In the second case the
        averages do not change.
      plain_bound: whether the bound is twice the largest average itself, as in feature version 1 of `celo`.
      equal_averages: whether all ten averages have a time constant of 10 steps, so that they do not differ.

    Returns:
      The features, float32[18], and the averages after this loss.
    """
    known = horizon >= 1.0
    num_steps = jnp.maximum(horizon, 1.0)
    progress = jnp.tanh(10.0 * (step / num_steps - np.asarray(PROGRESS_MARKS, np.float32)))
    progress = jnp.where(known, progress, unknown["progress"])
    if loss is None:
        return jnp.concatenate([progress, unknown["loss"]]), averages
    loss, given = last_finite(loss, averages.latest, averages.count)
    slowest = jnp.full_like(num_steps, 10.0) if equal_averages else num_steps
    features, new_averages = _loss_features(loss, averages, slowest, plain_bound)
    features = jnp.where(known & given, features, unknown["loss"])
    averages = jax.tree.map(lambda new, old: jnp.where(known & given, new, old), new_averages, averages)
    return jnp.concatenate([progress, features]), averages


def last_finite(loss: jax.Array, latest: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the loss, or `latest` if it is not finite, and whether the result is valid.

    Args:
      loss: float32[].
      latest: the last finite loss.
      count: number of finite losses so far.
    """
    finite = jnp.isfinite(loss)
    return jnp.where(finite, loss, latest), finite | (count > 0.0)


def _loss_features(loss, averages, slowest, plain_bound):
    """`slowest` is the time constant of the last average, float32[]."""
    exponents = np.linspace(0.0, 1.0, NUM_LOSS_AVERAGES, dtype=np.float32)
    rates = 0.1 * (slowest / 10.0) ** -exponents  # the reciprocals of the time constants
    weight = lambda count: -jnp.expm1(-count * rates)  # 1 - decay ** count, the total weight of `count` losses
    latest = loss = jnp.clip(loss, -MAX_LOSS, MAX_LOSS)
    count = averages.count + 1.0
    shrunk = averages.mean if plain_bound else averages.mean * (weight(averages.count) / weight(count))
    loss = jnp.where(averages.count > 0.0, jnp.minimum(loss, 2.0 * jnp.abs(jnp.max(shrunk))), loss)
    # The bias-corrected average is updated directly. If the average were kept uncorrected and corrected here, rounding
    # errors would be as large as the differences below.
    mean = averages.mean + (weight(1.0) / weight(count)) * (loss - averages.mean)
    lowest = jnp.minimum(averages.lowest, mean)
    short, long, low = mean[:-1], mean[1:], lowest[:-1]
    features = jnp.clip((short - low) / jnp.maximum(long - low, 1e-8) - 1.0, -1.0, 1.0)
    return jnp.where(count > 2.0, features, 0.0), LossAverages(count, mean, lowest, latest)
