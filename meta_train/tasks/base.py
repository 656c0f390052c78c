"""`Task`, an inner training problem, and the scale on which tasks compare."""

from collections.abc import Callable
import functools
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp


def _one(config):
    del config
    return 1.0


class Task(NamedTuple):
    """An inner training problem, or a distribution of them.

    Fields:
      name: what to call it in metrics and tables.
      data: pytree of arrays that `loss` and `evaluate` read; always passed in, never baked into a compiled program.
      sample: `(key) -> config`. Draws what varies from episode to episode (scales, targets, …); `()` if nothing does.
      init: `(key, config) -> params`. Draws initial parameters.
      loss: `(params, key, data, config) -> scalar`. Training loss on a minibatch that it draws from key.
      evaluate: `(params, key, data, config) -> dict` of scalars: `loss`, held out where there is such a thing, and
        other metrics.
      normalize: `(loss) -> scalar` on which tasks compare; finite for any loss, NaN included.
      loss_scale: `(config) -> scalar`. The factor on `loss` that the episode drew; divide by it before `normalize` and
        before reporting. `evaluate` gives losses without it.

    Example:
      >>> import jax
      >>> from meta_train import tasks
      >>> task = tasks.get("digits-mlp")
      >>> config = task.sample(jax.random.key(0))
      >>> params = task.init(jax.random.key(1), config)
      >>> bool(2.0 < task.loss(params, jax.random.key(2), task.data, config) < 2.6)  # about log 10
      True
    """

    name: str
    data: Any
    sample: Callable[[jax.Array], Any]
    init: Callable[[jax.Array, Any], Any]
    loss: Callable[[Any, jax.Array, Any, Any], jax.Array]
    evaluate: Callable[[Any, jax.Array, Any, Any], dict[str, jax.Array]]
    normalize: Callable[[jax.Array], jax.Array]
    loss_scale: Callable[[Any], Any] = _one


def log_normalizer(scale: float) -> Callable[[jax.Array], jax.Array]:
    """Returns `loss -> log(loss / scale + 0.02)`, with the ratio cut to 0…10 and NaN taken as 10.

    About 0 for an untrained model if `scale` is its loss. The logarithm makes a halving count the same early and late;
    0.02 is where it stops counting. A diverged run costs log(10.02), however it diverged. The function's
    `keywords["scale"]` tells the scale.

    Raises:
      ValueError: if scale is not a positive number.

    Example:
      >>> normalize = log_normalizer(2.0)
      >>> [round(float(normalize(loss)), 2) for loss in (2.0, 0.0, float("nan"))]
      [0.02, -3.91, 2.3]
    """
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale must be a positive number, the loss of an untrained model, got {scale}.")
    return functools.partial(_log_ratio, scale=float(scale))


def power_normalizer(scale: float, power: float = 0.1) -> Callable[[jax.Array], jax.Array]:
    """Returns `loss -> ((loss / scale) ** power - 1) / power`, with the ratio cut to 0…10 and NaN taken as 10.

    Near the loss of an untrained model it is the logarithm; far below it counts a halving less and less, but without
    the floor of `log_normalizer`: at a power of .1 a halving at a ratio of 1e-2 counts .63 of one at 1, at 1e-4 .4. The
    function's `keywords["scale"]` tells the scale.

    Raises:
      ValueError: if scale is not a positive number, or power does not lie between 0 and 1.

    Example:
      >>> normalize = power_normalizer(2.0)
      >>> [round(float(normalize(loss)), 2) for loss in (2.0, 2e-4, 2e-8, float("nan"))]
      [0.0, -6.02, -8.42, 2.59]
    """
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale must be a positive number, the loss of an untrained model, got {scale}.")
    if not 0 < power <= 1:
        raise ValueError(f"power must lie between 0 and 1, got {power}: near 0 it is the logarithm.")
    return functools.partial(_power_ratio, scale=float(scale), power=float(power))


def _power_ratio(loss, scale, power):
    ratio = jnp.nan_to_num(loss / scale, nan=10.0, posinf=10.0)
    return (jnp.clip(ratio, 1e-30, 10.0) ** power - 1.0) / power


def _log_ratio(loss, scale):
    ratio = jnp.nan_to_num(loss / scale, nan=10.0, posinf=10.0)
    return jnp.log(jnp.clip(ratio, 0.0, 10.0) + 0.02)
