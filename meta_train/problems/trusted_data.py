"""Examples to train on and a few trusted ones, which judge the training: the data of learned weights and losses."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.data import Dataset
from meta_train.data import num_classes
from meta_train.few_shot.base import Network
from meta_train.tasks.prediction import cross_entropy
from meta_train.unroll.problem import Bilevel

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float


class TrustedData(NamedTuple):
    """Training examples whose labels, or pictures, may be bad, and trusted examples."""

    train_x: Any  # float32[n, ...]
    train_y: Any  # labels int32[n], or float[n, ...] to predict
    trusted_x: Any  # float32[m, ...]
    trusted_y: Any  # likewise, with m


class ExampleLossesFn(Protocol):
    """Compares outputs with targets, example by example."""

    def __call__(self, outputs: jax.Array, targets: Any, /) -> jax.Array:
        """Computes the losses.

        Args:
          outputs: float[n, ...], the network's.
          targets: labels or what else the examples have.

        Returns:
          float[n].
        """
        ...


class TrainingLossFn(Protocol):
    """The inner loss on a minibatch, which theta steers."""

    def __call__(self, theta: Any, apply: Any, rows: jax.Array, inputs: jax.Array, targets: jax.Array, /) -> jax.Array:
        """Computes it.

        Args:
          theta: meta-parameters.
          apply: `(inputs) -> outputs` of the network at its present parameters.
          rows: int32[batch], places of the examples in the training set.
          inputs: float[batch, ...].
          targets: of the examples.

        Returns:
          float[], the loss.
        """
        ...


def trusted_data(dataset: Dataset, *, num_trusted: int, noise: float = 0.0, seed: int = 0) -> TrustedData:
    """Takes trusted examples from a data set's training part, and spoils labels of the others.

    Args:
      dataset: a data set with labels; its held-out part is not looked at.
      num_trusted: examples of the training part, drawn at random, that keep their labels and are not trained on.
      noise: share of the others whose label is replaced by one of the other classes, drawn uniformly.
      seed: of both draws.

    Returns:
      A `TrustedData`.

    Raises:
      ValueError: if a part would be empty, noise does not lie between 0 and 1, or the data set has no labels.

    Example:
      >>> from meta_train import data
      >>> digits = data.load("digits")
      >>> noisy = trusted_data(digits, num_trusted=100, noise=0.4)
      >>> clean = trusted_data(digits, num_trusted=100)
      >>> noisy.train_x.shape, round(float(np.mean(noisy.train_y != clean.train_y)), 2)
      ((1337, 8, 8, 1), 0.4)
    """
    classes, size = num_classes(dataset), len(dataset.train_x)
    if not 0 < num_trusted < size:
        raise ValueError(f"num_trusted must lie between 1 and {size - 1}, got {num_trusted}.")
    if not 0 <= noise <= 1:
        raise ValueError(f"noise must lie between 0 and 1, got {noise}.")
    random = np.random.default_rng(seed)
    order = random.permutation(size)
    trusted, rest = order[:num_trusted], order[num_trusted:]
    labels = dataset.train_y[rest].copy()
    spoiled = random.permutation(len(rest))[: round(noise * len(rest))]
    if classes > 1:
        labels[spoiled] = (labels[spoiled] + random.integers(1, classes, len(spoiled))) % classes
    return TrustedData(dataset.train_x[rest], labels, dataset.train_x[trusted], dataset.train_y[trusted])


def judged_by_trusted(
    data: TrustedData,
    network: Network,
    training_loss: TrainingLossFn,
    *,
    name: str,
    batch_size: int,
    losses: ExampleLossesFn = cross_entropy,
) -> Bilevel:
    """Builds the problem of a network that trains on a loss of theta, so that it does well on trusted examples.

    Args:
      data: both kinds of examples.
      network: for their inputs.
      training_loss: the inner loss on a minibatch, drawn with replacement. With a batch as large as the training set,
        or larger, it is that of all examples, in order.
      name: the problem's.
      batch_size: of the inner and of the outer loss. Likewise for the trusted set.
      losses: of the examples in the outer loss, whose mean it is.

    Returns:
      A `Bilevel`.

    Raises:
      ValueError: if batch_size is below 1.

    Example: theta is a factor on the loss.
      >>> from meta_train import data, few_shot
      >>> def scaled(theta, apply, rows, inputs, targets):
      ...     return theta * jnp.mean(cross_entropy(apply(inputs), targets))
      >>> digits = trusted_data(data.load("digits"), num_trusted=100)
      >>> bilevel = judged_by_trusted(digits, few_shot.perceptron(10, ()), scaled, name="scaled", batch_size=32)
      >>> params = bilevel.init(jax.random.key(0), jnp.ones(()))
      >>> bool(2 < bilevel.inner_loss(params, jnp.ones(()), jax.random.key(1), bilevel.data) < 3)  # about log 10
      True
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")

    def inner_loss(params, theta, key, data):
        rows = _rows(key, len(data.train_x), batch_size)
        apply = lambda inputs: network.apply(params, inputs)
        return training_loss(theta, apply, rows, _take(data.train_x, rows), _take(data.train_y, rows))

    def outer_loss(params, theta, key, data):
        del theta
        rows = _rows(key, len(data.trusted_x), batch_size)
        return jnp.mean(losses(network.apply(params, _take(data.trusted_x, rows)), _take(data.trusted_y, rows)))

    example = data.train_x[:1]
    return Bilevel(inner_loss, outer_loss, lambda key, theta: network.init(key, example), data, name)


def weighted_mean(losses: Float[Array, " n"], weights: Float[Array, " n"]) -> Float[Array, ""]:
    """The mean of losses with weights that need not sum to one; zero where all weights are zero.

    Example:
      >>> float(weighted_mean(jnp.array([1.0, 3.0]), jnp.array([0.25, 0.75])))
      2.5
    """
    total = jnp.sum(weights)
    return jnp.where(total > 0, jnp.sum(weights * losses) / jnp.where(total > 0, total, 1), 0)


def _take(array, rows):
    return jnp.asarray(array)[rows]  # NumPy arrays, as an estimator has them, cannot be indexed in a trace


def _rows(key, size, batch_size):
    if batch_size >= size:
        return jnp.arange(size, dtype=jnp.int32)
    return jax.random.randint(key, (batch_size,), 0, size, jnp.int32)
