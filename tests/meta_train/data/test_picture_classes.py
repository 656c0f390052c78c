"""Pictures grouped by class, padded where a class has fewer."""

import numpy as np
import pytest

from meta_train.data import by_class


def test_pictures_keep_their_order_and_the_rest_is_zero():
    pictures = np.arange(1, 6, dtype=np.uint8).reshape(5, 1, 1, 1)
    classes = by_class(pictures, ["pear", "fig", "pear", "plum", "pear"])
    assert classes.names == ("fig", "pear", "plum")
    assert (classes.counts.tolist(), classes.counts.dtype) == ([1, 3, 1], np.int32)
    np.testing.assert_array_equal(classes.pictures[..., 0, 0, 0], [[2, 0, 0], [1, 3, 5], [4, 0, 0]])
    assert classes.pictures.dtype == np.uint8


@pytest.mark.parametrize(
    ("pictures", "names", "message"),
    [
        (np.zeros((2, 3, 3, 1)), ["a", "b"], r"must be uint8 or float32, .*, got float64\[2, 3, 3, 1\]"),
        (np.zeros((2, 3, 3), np.uint8), ["a", "b"], r"got uint8\[2, 3, 3\]"),
        (np.zeros((2, 3, 3, 1), np.uint8), ["a"], "got 2 pictures, 1 names"),
    ],
)
def test_refusals(pictures, names, message):
    with pytest.raises(ValueError, match=message):
        by_class(pictures, names)
