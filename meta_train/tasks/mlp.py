"""Multilayer perceptrons that classify."""

from collections.abc import Callable
from collections.abc import Sequence

import haiku as hk
import jax

from meta_train.data import Dataset
from meta_train.data import num_classes
from meta_train.tasks.base import Task
from meta_train.tasks.classification import classification


def mlp(
    name: str,
    dataset: Dataset,
    *,
    hidden_sizes: Sequence[int] = (32,),
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
    batch_size: int = 128,
    init_scale: tuple[float, float] = (1.0, 1.0),
) -> Task:
    """Builds the task of classifying with a multilayer perceptron. See `classification` for the arguments.

    Example:
      >>> from meta_train import data
      >>> mlp("digits-mlp-wide", data.load("digits"), hidden_sizes=(256,)).name
      'digits-mlp-wide'
    """
    sizes = (*hidden_sizes, num_classes(dataset))
    network = lambda x: hk.nets.MLP(sizes, activation=activation)(x)
    return classification(name, dataset, network, batch_size=batch_size, init_scale=init_scale)
