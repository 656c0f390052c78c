"""Softmax regression: linear classification, a convex task."""

import haiku as hk

from meta_train.data import Dataset
from meta_train.data import num_classes
from meta_train.tasks.base import Task
from meta_train.tasks.classification import classification


def softmax_regression(
    name: str, dataset: Dataset, *, batch_size: int = 128, init_scale: tuple[float, float] = (1.0, 1.0)
) -> Task:
    """Builds the task of classifying with one linear layer. See `classification` for the arguments.

    Example:
      >>> from meta_train import data
      >>> softmax_regression("iris-softmax", data.load("iris")).name
      'iris-softmax'
    """
    size = num_classes(dataset)
    network = lambda x: hk.Linear(size)(x)
    return classification(name, dataset, network, batch_size=batch_size, init_scale=init_scale)
