"""Pictures by class, and classes in two parts: those to learn from and those that are held out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class PictureClasses(NamedTuple):
    """Pictures by class. Classes may have different numbers of them."""

    pictures: np.ndarray  # uint8 in 0…255 or float32 in 0…1, [classes, most examples, height, width, channels]
    counts: np.ndarray  # int32[classes], examples of each class; what comes after them in `pictures` is zero
    names: tuple[str, ...]  # of the classes


class ClassSplit(NamedTuple):
    """Classes in two parts that share none."""

    name: str  # the data set's
    train: PictureClasses
    test: PictureClasses  # held-out classes


def by_class(pictures: np.ndarray, names: Sequence[str]) -> PictureClasses:
    """Groups pictures by class.

    Args:
      pictures: uint8 or float32, [num, height, width, channels].
      names: the class of each picture.

    Returns:
      The classes, sorted by name. Their pictures keep their order.

    Raises:
      ValueError: if pictures are of another type or number of axes, or there are not as many names.

    Example:
      >>> classes = by_class(np.ones((3, 2, 2, 1), np.uint8), ["b", "a", "b"])
      >>> classes.names, classes.counts.tolist(), classes.pictures.shape
      (('a', 'b'), [1, 2], (2, 2, 2, 2, 1))
    """
    if pictures.ndim != 4 or pictures.dtype not in (np.uint8, np.float32):
        raise ValueError(
            "pictures must be uint8 or float32, [num, height, width, channels], got "
            f"{pictures.dtype}{list(pictures.shape)}."
        )
    if len(pictures) != len(names):
        raise ValueError(f"each picture needs the name of its class, got {len(pictures)} pictures, {len(names)} names.")
    found, places, counts = np.unique(np.asarray(names, str), return_inverse=True, return_counts=True)
    grouped = np.zeros((len(found), counts.max(initial=0), *pictures.shape[1:]), pictures.dtype)
    for number, rows in enumerate(grouped):
        rows[: counts[number]] = pictures[places == number]
    return PictureClasses(grouped, counts.astype(np.int32), tuple(found.tolist()))
