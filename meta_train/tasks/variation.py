"""`Variation`: what a family of tasks draws anew for every episode."""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.tasks.base import Task

Range = tuple[float, float]


class Variation(NamedTuple):
    """Ranges from which each episode draws; by default nothing varies. Factors and shares are drawn log-uniformly.

    Fields:
      init_scale: factor on the initial parameters.
      loss_scale: factor on the loss, and so on the gradient. `Task.loss_scale` tells it.
      label_noise: share of training examples whose target is replaced: a class by a random one, a number by a draw
        from the standard normal distribution; the same examples throughout an episode. Drawn uniformly.
      subset: share of the training examples that the episode sees.
      batch: share of `batch_size` that counts; the rest of the minibatch has weight zero.

    Example:
      >>> Variation(init_scale=(0.5, 2.0), subset=(0.1, 1.0)).label_noise
      (0.0, 0.0)
    """

    init_scale: Range = (1.0, 1.0)
    loss_scale: Range = (1.0, 1.0)
    label_noise: Range = (0.0, 0.0)
    subset: Range = (1.0, 1.0)
    batch: Range = (1.0, 1.0)


FIXED = Variation()


class Draw(NamedTuple):
    """What an episode drew of a `Variation`; None for what does not vary."""

    init_scale: jax.Array | None
    loss_scale: jax.Array | None
    label_noise: jax.Array | None
    subset: jax.Array | None
    batch: jax.Array | None
    start: jax.Array | None  # int32[], the first example of the subset
    key: jax.Array | None  # of the examples with a replaced target


def check(variation: Variation, *, has_data: bool, has_targets: bool) -> None:
    """Raises ValueError where a range is impossible, or has no meaning for a task.

    Args:
      variation: what to check.
      has_data: whether the task draws minibatches from a data set.
      has_targets: whether its examples have targets apart from the inputs.
    """
    for name, (low, high) in variation._asdict().items():
        lowest, highest = (0.0, 1.0) if name == "label_noise" else (1e-30, 1e30 if name.endswith("scale") else 1.0)
        if not lowest <= low <= high <= highest:
            raise ValueError(
                f"{name} must be a pair {lowest:g} <= low <= high <= {highest:g}, got {(low, high)}: correct it."
            )
    fixed = [name for name in ("subset", "batch") if not has_data]
    fixed += [] if has_targets else ["label_noise"]
    for name in fixed:
        if getattr(variation, name) != getattr(FIXED, name):
            raise ValueError(
                f"this task has nothing that {name} could vary, got {getattr(variation, name)}: keep the default."
            )


def draw(variation: Variation, key: jax.Array, num_examples: int = 0) -> Draw | tuple[()]:
    """Draws for one episode: scalars float32[], or `()` if nothing varies.

    Args:
      variation: the ranges.
      key: of the episode.
      num_examples: how many training examples there are, for the place where a subset begins.

    Example:
      >>> draw(FIXED, jax.random.key(0))
      ()
    """
    if variation == FIXED:
        return ()
    *keys, start_key, noise_key = jax.random.split(key, 2 + len(variation))
    drawn = {}
    for key, (name, (low, high)) in zip(keys, variation._asdict().items(), strict=True):
        if (low, high) == getattr(FIXED, name):
            drawn[name] = None
        elif name == "label_noise":
            drawn[name] = jax.random.uniform(key, (), jnp.float32, low, high)
        else:
            drawn[name] = jnp.exp(jax.random.uniform(key, (), jnp.float32, np.log(low), np.log(high)))
    start = None if drawn["subset"] is None else jax.random.randint(start_key, (), 0, num_examples, jnp.int32)
    return Draw(**drawn, start=start, key=None if drawn["label_noise"] is None else noise_key)


def vary_scales(task: Task, variation: Variation) -> Task:
    """A task whose initial parameters and loss are scaled as each episode draws; its config is `(draw, config)`.

    The task's own config stays as it was. Returns the task itself if neither scale varies.
    """
    variation = FIXED._replace(init_scale=variation.init_scale, loss_scale=variation.loss_scale)
    if variation == FIXED:
        return task

    def sample(key):
        draw_key, sample_key = jax.random.split(key)
        return draw(variation, draw_key), task.sample(sample_key)

    def init(key, config):
        params = task.init(key, config[1])
        return params if config[0].init_scale is None else _scale(params, config[0].init_scale)

    def loss_scale(config):
        inner = task.loss_scale(config[1])
        return inner if config[0].loss_scale is None else config[0].loss_scale * inner

    def loss(params, key, data, config):
        value = task.loss(params, key, data, config[1])
        return value if config[0].loss_scale is None else config[0].loss_scale * value

    def evaluate(params, key, data, config):
        return task.evaluate(params, key, data, config[1])

    return task._replace(sample=sample, init=init, loss=loss, evaluate=evaluate, loss_scale=loss_scale)


def _scale(params: Any, factor: jax.Array) -> Any:
    return jax.tree.map(lambda x: (factor * x).astype(x.dtype), params)
