"""The split: a seeded permutation, four fifths of it for training."""

import numpy as np
import pytest

from meta_train.data import parts as data_parts


@pytest.mark.parametrize("num", [2, 9, 10, 101])
def test_the_split_is_a_partition_with_labels_kept(num):
    x = np.arange(2 * num).reshape(num, 2)
    parts = data_parts.split(x, np.arange(num))
    assert (len(parts.train_x), len(parts.train_y)) == (num * 4 // 5,) * 2
    assert sorted([*parts.train_y, *parts.test_y]) == list(range(num))
    np.testing.assert_array_equal(parts.train_x, x[parts.train_y])
    np.testing.assert_array_equal(parts.test_x, x[parts.test_y])


def test_the_split_never_changes():
    """Figures in cards and in the README depend on it."""
    parts = data_parts.split(np.zeros((10, 1)), np.arange(10))
    assert [*parts.train_y, *parts.test_y] == [4, 6, 2, 7, 3, 5, 9, 0, 8, 1]
