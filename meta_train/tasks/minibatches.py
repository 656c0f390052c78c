"""Tasks that draw minibatches from a data set: the part that all families with data share."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from meta_train.tasks import subset_walk
from meta_train.tasks import variation as varied
from meta_train.tasks.base import Task
from meta_train.tasks.base import log_normalizer
from meta_train.tasks.variation import FIXED
from meta_train.tasks.variation import Variation

MOST_HELD_OUT = 2000  # examples that `evaluate` looks at, so that it stays cheap on many particles


def minibatch_task(
    name: str,
    data: Any,
    *,
    init: Callable[[jax.Array], Any],
    example_losses: Callable[[Any, jax.Array, Any, Any], jax.Array],
    take: Callable[[Any, jax.Array], tuple[Any, Any]],
    num_examples: int,
    evaluate: Callable[[Any, jax.Array, Any], dict[str, jax.Array]],
    scale: float,
    batch_size: int,
    variation: Variation = FIXED,
    random_target: Callable[[jax.Array, Any], Any] | None = None,
) -> Task:
    """Builds the task of minimizing a mean over examples, one minibatch a step, drawn with replacement.

    Args:
      name: the task's name.
      data: pytree of arrays.
      init: `(key) -> params`.
      example_losses: `(params, key, x, y) -> float32[batch]`, the loss of each example.
      take: `(data, rows int32[batch]) -> (x, y)`, the examples of those numbers.
      num_examples: how many training examples there are.
      evaluate: `(params, key, data) -> dict` of scalars, on held-out examples.
      scale: loss of an untrained model, see `log_normalizer`.
      batch_size: examples a step.
      variation: what each episode draws anew.
      random_target: `(key, y) -> y`, a random target that replaces y, the target of one example; None where there are
        no targets apart from the inputs.

    Returns:
      A `Task`.

    Raises:
      ValueError: if batch_size is below 1, or a range of variation is impossible or without meaning here.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    varied.check(variation, has_data=True, has_targets=random_target is not None)
    of_data = variation._replace(init_scale=FIXED.init_scale, loss_scale=FIXED.loss_scale)

    def loss(params, key, data, config):
        rows = jax.random.randint(key, (batch_size,), 0, _num_seen(config, num_examples))
        if config and config.subset is not None:
            rows = subset_walk.examples(rows, config.start, num_examples)
        x, y = take(data, rows)
        if config and config.label_noise is not None:
            y = _replace_some(config, rows, y, random_target)
        losses = example_losses(params, jax.random.fold_in(key, 1), x, y)
        if not config or config.batch is None:
            return jnp.mean(losses)
        count = jnp.ceil(config.batch * batch_size)
        counted = jnp.arange(batch_size).astype(jnp.float32) < count
        return jnp.sum(jnp.where(counted, losses, 0.0)) / count

    task = Task(
        name,
        data,
        sample=lambda key: varied.draw(of_data, key, num_examples),
        init=lambda key, config: init(key),
        loss=loss,
        evaluate=lambda params, key, data, config: evaluate(params, key, data),
        normalize=log_normalizer(scale),
        scale=float(scale),
    )
    return varied.vary_scales(task, variation)


def _num_seen(config, num_examples):
    if not config or config.subset is None:
        return num_examples
    return subset_walk.num_seen(config.subset, num_examples)


def _replace_some(config, rows, y, random_target):
    def replace(row, y):
        choice_key, target_key = jax.random.split(jax.random.fold_in(config.key, row))
        chosen = jax.random.bernoulli(choice_key, config.label_noise)
        return jnp.where(chosen, random_target(target_key, y), y)

    return jax.vmap(replace)(rows, y)
