"""Features of a whole run or of a whole tensor, which a recurrent network turns into controls of per-parameter rules.

`schedule` is what VeLO and Celo have in common: progress through the run, and how the loss has moved on time scales
from 10 steps to the whole run.

Metz, Harrison, Freeman, Merchant, Beyer, Bradbury, Agrawal, Poole, Mordatch, Roberts, Sohl-Dickstein 2022, "VeLO:
Training Versatile Learned Optimizers by Scaling Up", https://arxiv.org/abs/2211.09760

Features are those of the authors' released code. Deviations:
- Where the number of steps or the loss is not known, learned constants stand in for the features that need them; the
  released code needs both. The time scales of the averages of the loss depend on the number of steps.
- The bound on the loss uses averages that are bias-corrected by the number of losses that they hold; the released code
  takes one more.
- The loss counts as ±1e30 at most, so that features stay finite.
"""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

PROGRESS_MARKS = (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)  # fractions of the run
NUM_LOSS_AVERAGES = 10
NUM_LOSS_FEATURES = NUM_LOSS_AVERAGES - 1
NUM_SCHEDULE_FEATURES = len(PROGRESS_MARKS) + NUM_LOSS_FEATURES
MAX_LOSS = 1e30  # losses count as ± this at most, so that averages and differences stay finite


class LossAverages(NamedTuple):
    """Moving averages of the loss on ten time scales."""

    count: jax.Array  # float32[], losses seen so far
    mean: jax.Array  # float32[10], bias-corrected means
    lowest: jax.Array  # float32[10], their lowest values
    latest: jax.Array  # float32[], the last loss that was finite


class LSTMState(NamedTuple):
    """State of an LSTM with one row for each tensor, or one for all."""

    hidden: jax.Array  # float32[n, size]
    cell: jax.Array  # float32[n, size]


def init_loss_averages() -> LossAverages:
    """The averages before the first loss."""
    zero, lowest = jnp.zeros((), jnp.float32), jnp.full((NUM_LOSS_AVERAGES,), MAX_LOSS, jnp.float32)
    return LossAverages(zero, jnp.zeros((NUM_LOSS_AVERAGES,), jnp.float32), lowest, zero)


def init_unknown() -> dict[str, jax.Array]:
    """Meta-parameters: what stands in for progress and for the loss features where they are not known."""
    return {
        "progress": jnp.zeros((len(PROGRESS_MARKS),), jnp.float32),
        "loss": jnp.zeros((NUM_LOSS_FEATURES,), jnp.float32),
    }


def init_lstm_state(size: int) -> dict[str, jax.Array]:
    """Meta-parameters: the first state of an LSTM, the same for all rows."""
    return {"hidden": jnp.zeros((size,), jnp.float32), "cell": jnp.zeros((size,), jnp.float32)}


def first_lstm_state(theta: Any, num_rows: int) -> LSTMState:
    """The state at the first step, of what `init_lstm_state` gave."""
    return LSTMState(*(jnp.broadcast_to(theta[name], (num_rows, *theta[name].shape)) for name in LSTMState._fields))


def log_magnitude(x: jax.Array) -> jax.Array:
    """`log(1e-8 + |x|)`, clipped to ±5."""
    return jnp.clip(jnp.log(1e-8 + jnp.abs(x)), -5.0, 5.0)


def without_nan(x: jax.Array) -> jax.Array:
    """NaN becomes 0, in inputs of a network that mixes tensors: so a NaN stays in the tensor where it arose."""
    return jnp.where(jnp.isnan(x), 0.0, x)


def schedule(
    step: jax.Array, horizon: jax.Array, loss: jax.Array | None, averages: LossAverages, unknown: Any
) -> tuple[jax.Array, LossAverages]:
    """Nine features of progress and nine of the loss.

    Progress is `tanh(10 * (step / horizon - mark))` for the nine marks. The time constants of the averages of the loss
    run geometrically from 10 steps to the horizon. A loss feature compares a bias-corrected average, a, with the next
    slower one, b: `clip((a - low) / (b - low) - 1, -1, 1)`, where low is the lowest a so far; it is 0 for the first two
    losses. A loss counts as twice the largest average at most. One that is not finite counts as the last one that was,
    and as not given if there was none.

    Args:
      step: updates made so far, a float32 scalar.
      horizon: planned number of updates, a float32 scalar, 0 if it is not known.
      loss: a float32 scalar of any size and sign, or None.
      averages: what the last call gave, or `init_loss_averages()`.
      unknown: what `init_unknown` gave. Its "progress" stands in where the horizon is not known, its "loss" where
        either is not; then the averages stay as they are.

    Returns:
      float32[18] and the averages after this loss.
    """
    known = horizon >= 1.0
    num_steps = jnp.maximum(horizon, 1.0)
    progress = jnp.tanh(10.0 * (step / num_steps - np.asarray(PROGRESS_MARKS, np.float32)))
    progress = jnp.where(known, progress, unknown["progress"])
    if loss is None:
        return jnp.concatenate([progress, unknown["loss"]]), averages
    loss, given = last_finite(loss, averages.latest, averages.count)
    features, new_averages = _loss_features(loss, averages, num_steps)
    features = jnp.where(known & given, features, unknown["loss"])
    averages = jax.tree.map(lambda new, old: jnp.where(known & given, new, old), new_averages, averages)
    return jnp.concatenate([progress, features]), averages


def last_finite(loss: jax.Array, latest: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The loss, or the last one that was finite, of which there were `count`; and whether there is either."""
    finite = jnp.isfinite(loss)
    return jnp.where(finite, loss, latest), finite | (count > 0.0)


def _loss_features(loss, averages, num_steps):
    exponents = np.linspace(0.0, 1.0, NUM_LOSS_AVERAGES, dtype=np.float32)
    rates = 0.1 * (num_steps / 10.0) ** -exponents  # one over the time constants
    weight = lambda count: -jnp.expm1(-count * rates)  # of `count` losses in an average: 1 - decay ** count
    latest = loss = jnp.clip(loss, -MAX_LOSS, MAX_LOSS)
    loss = jnp.where(averages.count > 0.0, jnp.minimum(loss, 2.0 * jnp.abs(jnp.max(averages.mean))), loss)
    count = averages.count + 1.0
    # Not the average and then its correction: their rounding errors would be as large as the differences below.
    mean = averages.mean + (weight(1.0) / weight(count)) * (loss - averages.mean)
    lowest = jnp.minimum(averages.lowest, mean)
    short, long, low = mean[:-1], mean[1:], lowest[:-1]
    features = jnp.clip((short - low) / jnp.maximum(long - low, 1e-8) - 1.0, -1.0, 1.0)
    return jnp.where(count > 2.0, features, 0.0), LossAverages(count, mean, lowest, latest)
