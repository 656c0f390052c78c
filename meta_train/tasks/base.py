"""`Task`, an inner training problem, and the scale on which the losses of different tasks compare."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float


class SampleFn(Protocol):
    """Draws what varies from episode to episode."""

    def __call__(self, key: jax.Array, /) -> Any:
        """Draws a config.

        Args:
          key: random key of the episode.

        Returns:
          The config, a pytree of arrays: scales, targets, subsets of the data. `()` if nothing varies.
        """
        ...


class TaskInitFn(Protocol):
    """Draws initial parameters."""

    def __call__(self, key: jax.Array, config: Any, /) -> Any:
        """Draws the parameters.

        Args:
          key: random key.
          config: what `Task.sample` drew for the episode.

        Returns:
          The initial parameters, a pytree of floating-point arrays.
        """
        ...


class TaskLossFn(Protocol):
    """The training loss."""

    def __call__(self, params: Any, key: jax.Array, data: Any, config: Any, /) -> jax.Array:
        """Computes the loss on a minibatch.

        Args:
          params: the parameters; the optimizer follows the gradient with respect to them.
          key: random key that draws the minibatch and everything else that is random in the loss.
          data: `Task.data`.
          config: what `Task.sample` drew for the episode.

        Returns:
          float[], the loss.
        """
        ...


class EvaluateFn(Protocol):
    """The evaluation on held-out data."""

    def __call__(self, params: Any, key: jax.Array, data: Any, config: Any, /) -> dict[str, jax.Array]:
        """Computes the metrics.

        Args:
          params: the parameters to evaluate.
          key: random key, for tasks whose evaluation draws something.
          data: `Task.data`.
          config: what `Task.sample` drew for the episode.

        Returns:
          Scalars by name. `loss` is always there, on held-out data where the task has them and without `loss_scale`.
        """
        ...


class NormalizeFn(Protocol):
    """Maps a loss to a scale on which tasks compare."""

    def __call__(self, loss: jax.Array, /) -> jax.Array:
        """Normalizes a loss.

        Args:
          loss: float[…], a loss without `loss_scale`.

        Returns:
          float[…], finite for any loss, NaN included.
        """
        ...


class LossScaleFn(Protocol):
    """Tells the factor on the loss that an episode drew."""

    def __call__(self, config: Any, /) -> Any:
        """Reads the factor.

        Args:
          config: what `Task.sample` drew for the episode.

        Returns:
          float[] or a Python float, the factor on `Task.loss`.
        """
        ...


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
      scale: about the loss of an untrained model, which the task's usual `normalize` divides by. Lists of tasks show
        it, and it builds other normalizers: `task._replace(normalize=power_normalizer(task.scale))`.

    Example:
      >>> import jax
      >>> from meta_train import tasks
      >>> task = tasks.get("digits-mlp")
      >>> config = task.sample(jax.random.key(0))
      >>> params = task.init(jax.random.key(1), config)
      >>> bool(2.0 < task.loss(params, jax.random.key(2), task.data, config) < 2.6)  # about log 10
      True
      >>> round(task.scale, 2)
      2.3
    """

    name: str
    data: Any
    sample: SampleFn
    init: TaskInitFn
    loss: TaskLossFn
    evaluate: EvaluateFn
    normalize: NormalizeFn
    loss_scale: LossScaleFn = _one
    scale: float = 1.0


def normalized_loss(task: Task, loss: Float[Array, ""], config: Any) -> Float[Array, ""]:
    """Puts a training loss on the scale on which tasks compare.

    Args:
      task: the task that the loss is of.
      loss: what `task.loss` gave.
      config: what `task.sample` drew for the episode; the factor that it drew for the loss is taken out.

    Returns:
      The normalized loss.
    """
    return task.normalize(loss / task.loss_scale(config))


def num_parameters(task: Task) -> int:
    """How many numbers the parameters of a task's model are. Nothing is computed.

    Example:
      >>> from meta_train import tasks
      >>> num_parameters(tasks.get("digits-softmax"))
      650
    """
    key = jax.eval_shape(jax.random.key, 0)
    params = jax.eval_shape(lambda key: task.init(key, task.sample(key)), key)
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def log_normalizer(scale: float) -> NormalizeFn:
    """Returns `loss -> log(loss / scale + 0.02)`, with the ratio clipped to 0…10 and NaN replaced by 10.

    The result is about 0 for an untrained model if `scale` is its loss. The logarithm makes a halving of the loss count
    the same early and late in training, until the 0.02 ends the gain. A diverged run costs log(10.02), however it
    diverged. Give the same `scale` to the `Task`.

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


def power_normalizer(scale: float, power: float = 0.1) -> NormalizeFn:
    """Returns `loss -> ((loss / scale) ** power - 1) / power`, with the ratio clipped to 0…10 and NaN replaced by 10.

    Near the loss of an untrained model it is about the logarithm. Far below it a halving counts less and less, but
    there is no floor as in `log_normalizer`: with a power of 0.1 a halving at a ratio of 1e-2 counts 0.63 times a
    halving at a ratio of 1, at a ratio of 1e-4 it counts 0.4 times. Give the same `scale` to the `Task`.

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
