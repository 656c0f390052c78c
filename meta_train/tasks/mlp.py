"""Multilayer perceptrons that classify."""

from collections.abc import Callable
from collections.abc import Sequence

import haiku as hk
import jax

from meta_train.data import Dataset
from meta_train.data import num_classes
from meta_train.tasks.base import Task
from meta_train.tasks.prediction import classification
from meta_train.tasks.variation import FIXED
from meta_train.tasks.variation import Variation


def mlp(
    name: str,
    dataset: Dataset,
    *,
    hidden_sizes: Sequence[int] = (32,),
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
    normalization: Callable[[jax.Array], jax.Array] | None = None,
    batch_size: int = 128,
    variation: Variation = FIXED,
) -> Task:
    """Builds the task of classifying with a multilayer perceptron. See `classification` for the other arguments.

    Args:
      name: the task's name.
      dataset: training and held-out examples; images are flattened.
      hidden_sizes: units of the hidden layers.
      activation: of the hidden layers.
      normalization: applied before each activation, such as `attention.layer_norm`; None: nothing.
      batch_size: examples a step.
      variation: what each episode draws anew.

    Example:
      >>> from meta_train import data
      >>> mlp("digits-mlp-wide", data.load("digits"), hidden_sizes=(256,)).name
      'digits-mlp-wide'
    """
    network = perceptron((*hidden_sizes, num_classes(dataset)), activation, normalization)
    return classification(name, dataset, network, batch_size=batch_size, variation=variation)


def perceptron(sizes: Sequence[int], activation: Callable, normalization: Callable | None = None) -> Callable:
    """Returns `(x[batch, …]) -> [batch, sizes[-1]]`, a multilayer perceptron as a function of Haiku modules."""
    inner = activation if normalization is None else lambda x: activation(normalization(x))
    return lambda x: hk.nets.MLP(tuple(sizes), activation=inner)(hk.Flatten()(x))
