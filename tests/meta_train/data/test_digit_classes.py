"""Digits as classes: which there are, and that a one can tell them apart where the docstring says so."""

import numpy as np
import pytest

from meta_train.data import digit_classes
from meta_train.data import load


def test_classes_and_their_sizes():
    split = digit_classes()
    assert digit_classes() is split
    assert (split.train.pictures.shape, split.test.pictures.shape) == ((26, 361, 8, 8, 1), (16, 181, 8, 8, 1))
    assert {name[0] for name in split.test.names} == {"4", "7"}
    assert {name[0] for name in split.train.names} == set("0123568")
    per_digit = {digit: sum(name[0] == digit for name in split.train.names) for digit in "0123568"}
    assert per_digit == {"0": 2, "1": 2, "2": 4, "3": 4, "5": 4, "6": 8, "8": 2}
    # Each of the 1,797 digits is in as many classes as its digit has.
    labels = np.concatenate(load("digits")[1::2])
    expected = sum(per_digit.get(str(digit), 8) * int((labels == digit).sum()) for digit in range(10))
    assert split.train.counts.sum() + split.test.counts.sum() == expected
    assert not (split.train.pictures.flags.writeable or split.test.counts.flags.writeable)


@pytest.mark.parametrize(("name", "turns", "mirrored"), [("7 turned 1", 1, False), ("4 mirrored turned 2", 2, True)])
def test_poses(name, turns, mirrored):
    classes = digit_classes().test
    upright, posed = (
        classes.pictures[classes.names.index(which), :, :, :, 0] for which in (f"{name[0]} turned 0", name)
    )
    for before, after in zip(upright, posed, strict=True):
        np.testing.assert_array_equal(np.rot90(np.fliplr(before) if mirrored else before, turns), after)


def test_nines_are_sixes_upside_down():
    dataset = load("digits")
    nine = dataset.train_x[dataset.train_y == 9][0]
    classes = digit_classes().train
    sixes = classes.pictures[classes.names.index("6 turned 0")]
    assert (sixes == np.rot90(nine, 2)).all(axis=(1, 2, 3)).any()


def _accuracy(classes):
    """Of the nearest mean, of the first 50 pictures of each class, on the next 50."""
    flat = classes.pictures.reshape(*classes.pictures.shape[:2], -1)
    means, rest = flat[:, :50].mean(axis=1), flat[:, 50:100]
    nearest = np.square(rest[:, :, None] - means).sum(axis=-1).argmin(axis=-1)
    return (nearest == np.arange(len(means))[:, None]).mean(axis=1)


def test_classes_are_told_apart():
    """On both sides the nearest mean, of chance 1/26 or 1/16, finds each class in more than half of all cases."""
    for classes in digit_classes()[1:]:
        accuracy = _accuracy(classes)
        assert accuracy.min() > 0.5, dict(zip(classes.names, accuracy.round(2), strict=True))
