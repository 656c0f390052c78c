"""Data sets as arrays in memory, from what scikit-learn bundles: nothing is downloaded.

Each set is split once, at random with a fixed seed, into four fifths for training and one fifth held out.
"""

import difflib
from typing import NamedTuple

import numpy as np
import sklearn.datasets

_BUNDLED = {
    "breast_cancer": sklearn.datasets.load_breast_cancer,
    "digits": sklearn.datasets.load_digits,
    "iris": sklearn.datasets.load_iris,
    "wine": sklearn.datasets.load_wine,
}


class Dataset(NamedTuple):
    """A labelled data set."""

    train_x: np.ndarray  # float32[num_train, num_features]
    train_y: np.ndarray  # int32[num_train], 0 … num_classes - 1
    test_x: np.ndarray  # float32[num_test, num_features]
    test_y: np.ndarray  # int32[num_test]


def load(name: str) -> Dataset:
    """Loads a data set of scikit-learn by name.

    Images ("digits", 8×8, 1,797 of them) are scaled to 0…1; the columns of tables are standardised by the mean and
    standard deviation of the training part.

    Raises:
      ValueError: if there is no data set of that name.

    Example:
      >>> load("digits").train_x.shape
      (1437, 64)
    """
    if name not in _BUNDLED:
        near = difflib.get_close_matches(name, _BUNDLED, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"there is no data set {name!r}. {hint}Choose from {', '.join(sorted(_BUNDLED))}.")
    x, y = _BUNDLED[name](return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = np.split(order, [len(x) * 4 // 5])
    if name == "digits":
        x = x / 16.0
    else:
        x = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
    x, y = x.astype(np.float32), y.astype(np.int32)
    return Dataset(x[train], y[train], x[test], y[test])


def num_classes(dataset: Dataset) -> int:
    """How many classes the labels tell apart."""
    return int(max(dataset.train_y.max(), dataset.test_y.max())) + 1
