"""The two parts of a data set as a source holds them, and the seeded split for a source that has one part only."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Num
    from jaxtyping import Shaped


class Parts(NamedTuple):
    """Training and held-out examples in the units of their source; the fields are those of `meta_train.data.Dataset`.

    x is one of: pictures uint8 or float (0…1) [num, height, width] or [num, height, width, channels]; a table
    float[num, columns]. y is integer class labels [num] or float targets [num].
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def split(x: Num[np.ndarray, " num *features"], y: Shaped[np.ndarray, " num"]) -> Parts:
    """Shuffles the examples with a fixed seed; four fifths, rounded down, are for training, the rest is held out.

    Example:
      >>> import numpy as np
      >>> parts = split(np.arange(6.0)[:, None], np.arange(6))
      >>> len(parts.train_x), len(parts.test_x)
      (4, 2)
    """
    order = np.random.default_rng(0).permutation(len(x))
    train, test = np.split(order, [len(x) * 4 // 5])
    return Parts(x[train], y[train], x[test], y[test])
