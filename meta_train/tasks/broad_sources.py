"""The data sets that a pool of broad tasks is made of, each with 64 inputs: given ones, and two generated ones."""

from typing import NamedTuple

import numpy as np

from meta_train import data
from meta_train.data import Dataset

NUM_INPUTS, NUM_CLASSES = 64, 10
_TRAIN, _TEST = 4096, 1024  # examples of each generated data set


class Part(NamedTuple):
    """Training or held-out examples."""

    x: np.ndarray  # float64[num, 64]
    label: np.ndarray  # int[num], 0 … num_classes - 1
    value: np.ndarray  # float[num], the number to predict; 0 if there is none


class Examples(NamedTuple):
    """A data set: the training inputs have mean 0 and mean square 1, those after the first num_inputs are 0."""

    train: Part
    test: Part
    num_inputs: int
    num_classes: int
    has_value: bool


def standardized(name: str, dataset: Dataset) -> Examples:
    """Flattens, standardizes and pads a data set's inputs; a number to predict also gives ten classes, its deciles.

    Raises:
      ValueError: if there are more than 64 inputs or 10 classes, or a class without a held-out example.
    """
    has_value = dataset.train_y.dtype.kind == "f"
    num_classes = NUM_CLASSES if has_value else data.num_classes(dataset)
    train_x, test_x = (x.reshape(len(x), -1).astype(np.float64) for x in (dataset.train_x, dataset.test_x))
    num_inputs = train_x.shape[1]
    if num_inputs > NUM_INPUTS or num_classes > NUM_CLASSES:
        raise ValueError(
            f"a data set of a pool has at most {NUM_INPUTS} inputs and {NUM_CLASSES} classes, got {name!r} with "
            f"{num_inputs} and {num_classes}: leave it out."
        )
    edges = np.quantile(dataset.train_y, np.linspace(0, 1, NUM_CLASSES + 1)[1:-1]) if has_value else None

    def part(x, y):
        x = np.pad((x - train_x.mean()) / train_x.std(), ((0, 0), (0, NUM_INPUTS - num_inputs)))
        return Part(x, y, np.zeros(len(y))) if edges is None else Part(x, np.searchsorted(edges, y), y)

    train, test = part(train_x, dataset.train_y), part(test_x, dataset.test_y)
    for each in (train, test):
        empty = np.flatnonzero(np.bincount(each.label, minlength=num_classes) == 0)
        if len(empty):
            raise ValueError(f"each class of {name!r} needs examples in both parts, got none of class {empty[0]}.")
    return Examples(train, test, num_inputs, num_classes, has_value)


def gaussian() -> Examples:
    """Inputs from the standard normal distribution, without labels."""
    rng = np.random.default_rng(1)
    part = lambda num: Part(rng.normal(size=(num, NUM_INPUTS)), np.zeros(num, int), np.zeros(num))
    return Examples(part(_TRAIN), part(_TEST), NUM_INPUTS, 1, False)


def clusters() -> Examples:
    """Ten classes of four clusters each, which overlap; no linear function of the inputs tells them apart."""
    rng = np.random.default_rng(2)
    centers = 0.5 * rng.normal(size=(NUM_CLASSES, 4, NUM_INPUTS))

    def part(num):
        label, cluster = rng.integers(0, NUM_CLASSES, num), rng.integers(0, 4, num)
        x = centers[label, cluster] + rng.normal(size=(num, NUM_INPUTS))
        return Part(x / 1.25**0.5, label, np.zeros(num))

    return Examples(part(_TRAIN), part(_TEST), NUM_INPUTS, NUM_CLASSES, False)
