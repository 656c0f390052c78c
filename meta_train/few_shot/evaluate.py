"""Judges what adapts to an episode's support set by its query set, on held-out episodes, with 95 % intervals."""

import functools
import math
from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.few_shot.base import Batch
from meta_train.few_shot.base import Episodes
from meta_train.host import progress as host_progress

_NORMAL_95 = 1.959963984540054  # standard errors on each side of a mean


class EvaluatedFn(Protocol):
    """Learns from a support set, and answers for the query set."""

    def __call__(self, theta: Any, key: jax.Array, support: Batch, query_inputs: jax.Array, /) -> jax.Array:
        """Adapts.

        Args:
          theta: meta-parameters.
          key: random key.
          support: the examples to learn from.
          query_inputs: float32[n, ...].

        Returns:
          float32[n, num_outputs] on the query set: logits, or predictions.
        """
        ...


class Mean(NamedTuple):
    """A mean over episodes."""

    mean: float
    half_width: float  # of the 95 % interval: 1.96 standard errors; NaN of a single episode

    def __str__(self) -> str:
        """The mean and the interval, such as 0.981 ± 0.004."""
        return f"{self.mean:.4g} ± {self.half_width:.2g}"


class Evaluation(NamedTuple):
    """What `evaluate` found."""

    loss: Mean
    accuracy: Mean | None  # share of the query set that was told right; None if targets are no labels
    losses: np.ndarray  # float32[episodes]
    accuracies: np.ndarray | None  # float32[episodes], or None


def evaluate(
    adapt: EvaluatedFn,
    theta: Any,
    episodes: Episodes,
    key: jax.Array,
    num_episodes: int = 600,
    *,
    data: Any = None,
    batch_size: int = 20,
    progress: bool = True,
) -> Evaluation:
    """Adapts to held-out episodes, and compares the answers for their query sets.

    Equal keys draw equal episodes, whatever adapts to them. A second call with the same `adapt` and episodes compiles
    nothing.

    Args:
      adapt: `(theta, key, support, query_inputs) -> outputs`. Pure: it is compiled, and mapped over episodes.
      theta: meta-parameters.
      episodes: where the episodes come from.
      key: random key of the episodes and of `adapt`.
      num_episodes: how many.
      data: what to draw from; None: `episodes.test`. `episodes.train` tells how far what was learned fits.
      batch_size: episodes adapted to at a time; memory is linear in it.
      progress: whether to show a progress bar, if it takes more than ten seconds.

    Returns:
      An `Evaluation`. A loss that is not finite makes the mean not finite.

    Raises:
      ValueError: if num_episodes or batch_size is below 1, or the outputs are not of the shape that the episodes need.

    Example: 0 in answer to every point of a sinusoid; the mean square of a wave of amplitude a is a^2 / 2.
      >>> from meta_train.few_shot import sinusoids
      >>> zero = lambda theta, key, support, query_inputs: jnp.zeros((len(query_inputs), 1))
      >>> found = evaluate(zero, (), sinusoids(), jax.random.key(0))
      >>> print(found.loss)
      4.395 ± 0.33
    """
    if min(num_episodes, batch_size) < 1:
        raise ValueError(f"num_episodes and batch_size must be at least 1, got {num_episodes} and {batch_size}.")
    batch_size = min(batch_size, num_episodes)
    num_batches = -(-num_episodes // batch_size)
    keys = jax.random.split(key, num_batches * batch_size).reshape(num_batches, batch_size)
    data = episodes.test if data is None else data
    run = _compiled(adapt, episodes.sample, episodes.loss, episodes.num_outputs, episodes.classifies)
    found = []
    with host_progress.bar(num_episodes, unit="episode", disable=not progress, delay=10.0, leave=False) as bar:
        for batch in range(num_batches):
            found.append(jax.device_get(run(theta, keys[batch], data)))
            bar.update(min(batch_size, num_episodes - batch * batch_size))
    losses, accuracies = (np.concatenate(part)[:num_episodes] for part in zip(*found, strict=True))
    if not episodes.classifies:
        return Evaluation(_mean(losses), None, losses, None)
    return Evaluation(_mean(losses), _mean(accuracies), losses, accuracies)


@functools.lru_cache(maxsize=32)
def _compiled(adapt, sample, loss, num_outputs, classifies):
    """`(theta, keys, data) -> (losses, accuracies)`, one of each for each key."""

    def judge(theta, key, data):
        draw_key, adapt_key = jax.random.split(key)
        support, query = sample(draw_key, data)
        outputs = adapt(theta, adapt_key, support, query.inputs)
        if outputs.shape != (len(query.inputs), num_outputs):
            raise ValueError(
                f"adapt must return an output for each of the query set's examples, float[{len(query.inputs)}, "
                f"{num_outputs}], got {outputs.dtype}{list(outputs.shape)}."
            )
        right = (
            jnp.argmax(outputs, axis=-1).astype(query.targets.dtype) == query.targets if classifies else jnp.zeros(1)
        )
        return loss(outputs, query.targets), jnp.mean(right.astype(outputs.dtype))

    return jax.jit(jax.vmap(judge, (None, 0, None)))


def _mean(values):
    values = values.astype(np.float64)
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Mean(float(values.mean()), _NORMAL_95 * float(error))
