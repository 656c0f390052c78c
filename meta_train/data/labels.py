"""Class labels as numbers 0, 1, …: one rule for all formats of data.

The labels of both parts together are sorted, and each is replaced by its place: 1, 2, 3 become 0, 1, 2, and so do "a",
"b", "c". A model has an output for each class, so labels that look like row numbers or other ids are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Int32
    from jaxtyping import Shaped

LIMIT = 1_000_000  # integers from here on are ids, not classes

_MANY = 1000  # classes, beyond which each should have two examples


def are_labels(train_y: Shaped[np.ndarray, " num_train"], test_y: Shaped[np.ndarray, " num_test"]) -> bool:
    """Whether targets are class labels: texts, integers, or nothing but −1 and 1. Other numbers are to be predicted.

    Example:
      >>> are_labels(np.array([-1.0, 1.0]), np.array([1.0])), are_labels(np.array([0.5, 1.0]), np.array([1.0]))
      (True, False)
    """
    return train_y.dtype.kind != "f" or np.array_equal(np.unique(np.concatenate([train_y, test_y])), [-1, 1])


def number(
    where: str, train_y: Shaped[np.ndarray, " num_train"], test_y: Shaped[np.ndarray, " num_test"]
) -> tuple[Int32[np.ndarray, " num_train"], Int32[np.ndarray, " num_test"]]:
    """Numbers the labels of both parts of a data set.

    Args:
      where: the data set or its file, for error messages.
      train_y, test_y: texts, integers, or the floats −1 and 1; at least one each.

    Returns:
      Both, each label replaced by its place among the sorted labels.

    Raises:
      ValueError: if the labels look like ids: as many different ones as examples, or more than half as many and more
        than 1,000, or an integer of a million or more.

    Example:
      >>> number("fruit", np.array(["pear", "fig", "fig"]), np.array(["plum"]))
      (array([1, 0, 0], dtype=int32), array([2], dtype=int32))
    """
    classes, places = np.unique(np.concatenate([train_y, test_y]), return_inverse=True)
    if len(classes) == len(places) or len(classes) > max(_MANY, len(places) // 2):
        raise ValueError(
            f"{where}: the labels look like ids, for {len(places)} examples have {len(classes)} different ones. Give "
            "class labels that several examples share, or floating-point numbers to predict."
        )
    if classes.dtype.kind != "U" and max(-int(classes[0]), int(classes[-1])) >= LIMIT:
        raise ValueError(
            f"{where}: integer labels must be below {LIMIT:,}, got {classes[0]}…{classes[-1]}, which look like ids. "
            "Number the classes 0, 1, …, or give floating-point numbers to predict."
        )
    train, test = np.split(places.astype(np.int32), [len(train_y)])
    return train, test
