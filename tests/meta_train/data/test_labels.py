"""Labels of any kind become 0, 1, …, and ids are refused."""

import numpy as np
import pytest

from meta_train.data import labels as data_labels


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        ([3, 1, 2, 2], [1], [2, 0, 1, 1, 0]),
        ([-1, 1, 1], [-1], [0, 1, 1, 0]),
        ([-1.0, 1.0, 1.0], [-1.0], [0, 1, 1, 0]),
        (["dog", "cat", "dog"], ["cat", "ant"], [2, 1, 2, 1, 0]),
        ([0, 5, 5], [9, 9], [0, 1, 1, 2, 2]),  # a class may be held out alone
    ],
)
def test_labels_are_numbered_in_sorted_order_over_both_parts(train, test, expected):
    parts = data_labels.number("set", np.array(train), np.array(test))
    assert [len(part) for part in parts] == [len(train), len(test)]
    assert [part.dtype for part in parts] == [np.int32, np.int32]
    np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_small_types_and_mixed_ones_are_numbered_as_well():
    for kinds in (("u1", "u1"), ("u1", "i8"), ("u8", "i8"), ("i2", "i4")):
        train, test = np.array([7, 200, 7], kinds[0]), np.array([200], kinds[1])
        assert data_labels.are_labels(train, test)
        train, test = data_labels.number("set", train, test)
        assert [*train, *test] == [0, 1, 0, 1]


def test_what_are_labels():
    texts, integers, signs = np.array(["a"]), np.array([4]), np.array([-1.0, 1.0])
    for y in (texts, integers, signs):
        assert data_labels.are_labels(y, y)
    for train, test in (([0.0, 1.0], [1.0]), ([1.0], [1.0]), ([-1.0, 1.0], [0.0]), ([-1.0, 1.0], [np.nan])):
        assert not data_labels.are_labels(np.array(train), np.array(test))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1, 1, 2_000_000_000], r"below 1,000,000, got 0…2000000000, which look like ids"),
        ([0, -1_000_000, 0], r"below 1,000,000, got -1000000…0"),
        (range(6), "^rows.npz: the labels look like ids, for 6 examples have 6 different ones"),
        (["a", "b", "c"], "for 3 examples have 3 different ones"),
        ([*range(1001), *range(900)], "for 1901 examples have 1001 different ones"),
    ],
)
def test_ids_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        data_labels.number("rows.npz", np.array(y)[:-1], np.array(y)[-1:])


def test_many_classes_with_two_examples_each_are_labels():
    train, test = data_labels.number("signs", np.arange(1500) * 3, np.arange(1500) * 3)
    np.testing.assert_array_equal(train, np.arange(1500))
    np.testing.assert_array_equal(test, np.arange(1500))
