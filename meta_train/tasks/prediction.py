"""Predicting a target from an input by a Haiku network: classes or numbers. The families with labels build on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from meta_train.data import Dataset
from meta_train.data import num_classes
from meta_train.tasks.base import Task
from meta_train.tasks.minibatches import MOST_HELD_OUT
from meta_train.tasks.minibatches import minibatch_task
from meta_train.tasks.variation import FIXED
from meta_train.tasks.variation import Variation

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float
    from jaxtyping import Int


def classification(
    name: str,
    dataset: Dataset,
    network: Callable[[jax.Array], jax.Array],
    *,
    batch_size: int = 128,
    variation: Variation = FIXED,
) -> Task:
    """Builds the task of minimizing the mean cross-entropy of a network's logits.

    Args:
      name: the task's name.
      dataset: training and held-out examples with classes as labels.
      network: `(x float32[batch, …]) -> logits float32[batch, num_classes]`, a function of Haiku modules without
        randomness. x has the shape that the data set's inputs have.
      batch_size: examples a step, drawn with replacement.
      variation: what each episode draws anew.

    Returns:
      A `Task` whose loss is in nats and is normalized by that of guessing. `evaluate` gives the loss and the accuracy
      on the held-out part, at most `MOST_HELD_OUT` examples of it.

    Raises:
      ValueError: if batch_size is below 1, or a range of variation is impossible.
    """
    classes = num_classes(dataset)

    def metrics(logits, y):
        correct = (jnp.argmax(logits, axis=-1) == y).astype(jnp.float32)
        return {"loss": jnp.mean(cross_entropy(logits, y)), "accuracy": jnp.mean(correct)}

    return _prediction(
        name,
        dataset,
        network,
        losses=cross_entropy,
        metrics=metrics,
        random_target=lambda key, y: jax.random.randint(key, y.shape, 0, classes, y.dtype),
        scale=np.log(classes),
        batch_size=batch_size,
        variation=variation,
    )


def regression(
    name: str,
    dataset: Dataset,
    network: Callable[[jax.Array], jax.Array],
    *,
    batch_size: int = 128,
    variation: Variation = FIXED,
) -> Task:
    """Builds the task of minimizing a network's mean squared error.

    Args:
      name: the task's name.
      dataset: training and held-out examples with standardized float32 targets.
      network: `(x float32[batch, columns]) -> float32[batch, 1]`, a function of Haiku modules without randomness.
      batch_size: examples a step, drawn with replacement.
      variation: what each episode draws anew.

    Returns:
      A `Task` whose loss is in units of the targets' variance, 1 for the prediction of their mean, which is what it is
      normalized by. `evaluate` gives the loss on the held-out part, at most `MOST_HELD_OUT` examples of it.

    Raises:
      ValueError: if batch_size is below 1, or a range of variation is impossible.
    """
    losses = lambda outputs, y: jnp.square(outputs[:, 0] - y)
    return _prediction(
        name,
        dataset,
        network,
        losses=losses,
        metrics=lambda outputs, y: {"loss": jnp.mean(losses(outputs, y))},
        random_target=lambda key, y: jax.random.normal(key, y.shape, y.dtype),
        scale=1.0,
        batch_size=batch_size,
        variation=variation,
    )


def cross_entropy(logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Cross-entropies in nats."""
    chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen


def _prediction(name, dataset, network, *, losses, metrics, **rest):
    model = hk.without_apply_rng(hk.transform(network))
    example = np.zeros((1, *dataset.train_x.shape[1:]), np.float32)
    return minibatch_task(
        name,
        dataset,
        init=lambda key: model.init(key, example),
        example_losses=lambda params, key, x, y: losses(model.apply(params, x), y),
        take=lambda data, rows: (data.train_x[rows], data.train_y[rows]),
        num_examples=len(dataset.train_x),
        evaluate=lambda params, key, data: metrics(
            model.apply(params, data.test_x[:MOST_HELD_OUT]), data.test_y[:MOST_HELD_OUT]
        ),
        **rest,
    )
