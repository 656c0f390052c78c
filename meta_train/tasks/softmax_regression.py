"""Softmax regression: linear classification, a convex task."""

import haiku as hk

from meta_train.data import Dataset
from meta_train.data import num_classes
from meta_train.tasks.base import Task
from meta_train.tasks.prediction import classification
from meta_train.tasks.variation import FIXED
from meta_train.tasks.variation import Variation


def softmax_regression(name: str, dataset: Dataset, *, batch_size: int = 128, variation: Variation = FIXED) -> Task:
    """Builds the task of classifying with one linear layer. See `classification` for the arguments.

    Example:
      >>> from meta_train import data
      >>> softmax_regression("iris-softmax", data.load("iris")).name
      'iris-softmax'
    """
    size = num_classes(dataset)
    network = lambda x: hk.Linear(size)(hk.Flatten()(x))
    return classification(name, dataset, network, batch_size=batch_size, variation=variation)
