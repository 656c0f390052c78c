"""A user's own model as a task, made of the functions that his training program has anyway."""

from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import jax.numpy as jnp

from meta_train.tasks import user_batches
from meta_train.tasks import user_checks
from meta_train.tasks.base import Task
from meta_train.tasks.base import log_normalizer

MAX_BYTES = 2**30  # of training batches, by default


class ModelInitFn(Protocol):
    """Draws the initial parameters of the model."""

    def __call__(self, key: jax.Array, /) -> Any:
        """Draws them.

        Args:
          key: random key, a typed one as from `jax.random.key`.

        Returns:
          The parameters, a pytree of floating-point arrays.
        """
        ...


class BatchLossFn(Protocol):
    """The training loss of the model."""

    def __call__(self, params: Any, batch: Any, key: jax.Array, /) -> jax.Array:
        """Computes the loss.

        Args:
          params: the parameters.
          batch: a batch.
          key: random key, for dropout and the like.

        Returns:
          float[], the loss.
        """
        ...


class HeldOutFn(Protocol):
    """Gives the held-out data."""

    def __call__(self, key: jax.Array, /) -> Any:
        """Gives them. It is called once.

        Args:
          key: random key, for data that are drawn.

        Returns:
          A batch; it may be larger than those to train on.
        """
        ...


class MetricsFn(Protocol):
    """Measures the model on held-out data."""

    def __call__(self, params: Any, batch: Any, /) -> dict[str, Any]:
        """Measures it.

        Args:
          params: the parameters.
          batch: what `held_out` gave.

        Returns:
          Scalars by name, such as `{"error": …}`. A scalar named `loss` takes the place of the held-out loss that
          `loss` gives, for models that behave differently in training.
        """
        ...


class UserData(NamedTuple):
    """The data of the task."""

    train: Any  # each leaf [batches, …] of what `batches` gave, or [examples, …] of `data`
    held_out: Any  # a batch


class SeenData(UserData):
    """The data of a task without held-out data: `held_out` is a batch of training data."""

    __slots__ = ()


def has_held_out(task: Task) -> bool:
    """Whether a task has held-out data. Of the tasks here, only those of a user may lack them.

    Example:
      >>> from meta_train import tasks
      >>> has_held_out(tasks.get("digits-softmax"))
      True
    """
    return not isinstance(task.data, SeenData)


def from_functions(
    name: str,
    *,
    init: ModelInitFn,
    loss: BatchLossFn,
    batches: user_batches.BatchesFn | None = None,
    data: Any = None,
    batch_size: int | None = None,
    held_out: HeldOutFn | None = None,
    metrics: MetricsFn | None = None,
    num_batches: int = 1000,
    max_bytes: int = MAX_BYTES,
) -> Task:
    """Makes a task of a model. Either batches, or data and batch_size, say what to train on.

    JAX traces all functions except `batches` and `held_out`, and vectorizes them over seeds.

    Args:
      name: the task's name.
      init: `(key) -> params`.
      loss: `(params, batch, key) -> scalar`. It must be positive at the initial parameters: curves and speedups are
        those of its logarithm.
      batches: `(key) -> iterator of batches`, each a pytree of arrays of the same shapes. The first num_batches are
        kept in memory, and each step trains on one of them, drawn at random with replacement. If a pass over the data
        has fewer, another pass begins by a call with another key, unless it begins with the same batch as the first.
      data: pytree of arrays whose first axis counts the examples. Each step trains on batch_size of them, drawn at
        random with replacement.
      batch_size: examples a step, with data.
      held_out: `(key) -> batch` of held-out data. Without it, the held-out metrics are those of training data: of the
        first 2,000 examples of data, or of a batch from another call of batches.
      metrics: `(params, batch) -> dict` of scalars, on the held-out batch.
      num_batches: how many batches to keep at most. The number of steps is enough.
      max_bytes: how much memory the batches take at most; one batch is always kept.

    Raises:
      ValueError: if the functions or the data do not go together as described, or the loss, its gradient or the
        initial parameters are not finite. One training step is computed to find out.

    Example: a line through points.
      >>> import numpy as np
      >>> x = np.linspace(-1.0, 1.0, 50, dtype=np.float32)
      >>> task = from_functions(
      ...     "line",
      ...     init=lambda key: {"slope": jax.random.normal(key), "offset": jnp.zeros(())},
      ...     loss=lambda w, batch, key: jnp.mean((w["slope"] * batch["x"] + w["offset"] - batch["y"]) ** 2),
      ...     data={"x": x, "y": 2.0 * x + 1.0},
      ...     batch_size=10,
      ... )
      >>> sorted(task.evaluate(task.init(jax.random.key(0), ()), jax.random.key(1), task.data, ()))
      ['loss']
    """
    train_key, held_out_key = jax.random.split(jax.random.key(0))
    with user_checks.named(name):
        user_checks.check_functions(init=init, loss=loss, batches=batches, held_out=held_out, metrics=metrics)
        if batches is not None and data is None and batch_size is None:
            source = user_batches.collect(
                batches,
                train_key,
                num_batches=num_batches,
                max_bytes=max_bytes,
                check=lambda batch: user_checks.check_types(init, loss, batch),
            )
        elif data is not None and batches is None:
            source = user_batches.examples(data, batch_size)
        else:
            raise user_checks.RuleError(_choice(batches, data))
        if held_out is not None:
            held = user_batches.as_arrays(held_out(held_out_key), "held_out(key)")
        elif batches is not None:
            held = user_batches.first(batches, held_out_key)
        else:
            held = jax.tree.map(lambda x: x[: user_batches.MOST_HELD_OUT], source.arrays)
        batch = source.take(train_key, source.arrays)
        scale = user_checks.check_step(init, loss, metrics, batch, held, source.suspect)

    def training_loss(params, key, data, config):
        del config
        draw_key, loss_key = jax.random.split(key)
        return jnp.asarray(loss(params, source.take(draw_key, data.train), loss_key))

    def evaluate(params, key, data, config):
        del config
        values = {"loss": loss(params, data.held_out, key)} | (metrics(params, data.held_out) if metrics else {})
        return {name: jnp.asarray(value).astype(jnp.float32) for name, value in values.items()}

    return Task(
        name,
        (SeenData if held_out is None else UserData)(source.arrays, held),
        sample=lambda key: (),
        init=lambda key, config: init(key),
        loss=training_loss,
        evaluate=evaluate,
        normalize=log_normalizer(scale),
        scale=scale,
    )


def _choice(batches, data):
    if batches is not None and data is None:
        return "batch_size goes with data, for batches(key) gives whole batches. Leave batch_size out."
    got = "neither" if data is None else "both"
    return (
        f"there must be either batches(key), an iterator of batches, or data, arrays to draw batches from; got {got}."
    )
