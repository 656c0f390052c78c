"""Quasi-random trials: the sequence, the ranges, and how evenly they fill them."""

import numpy as np

from meta_train.evaluation import trials
from meta_train.evaluation.trials import Space

UNIT = Space((1.0, np.e), (1.0, np.e), (0.0, 1.0), (1.0, np.e))


def test_the_sequence_of_halton():
    """In bases 2, 3, 5 and 7, without the point at zero."""
    found = np.array(trials.trials(UNIT, 6))
    shares = np.stack([np.log(found[:, 0]), np.log(found[:, 1]), found[:, 2], np.log(1 - found[:, 3])], axis=1)
    expected = [
        [1 / 2, 1 / 3, 1 / 5, 1 / 7],
        [1 / 4, 2 / 3, 2 / 5, 2 / 7],
        [3 / 4, 1 / 9, 3 / 5, 3 / 7],
        [1 / 8, 4 / 9, 4 / 5, 4 / 7],
        [5 / 8, 7 / 9, 1 / 25, 5 / 7],
        [3 / 8, 2 / 9, 6 / 25, 6 / 7],
    ]
    np.testing.assert_allclose(shares, expected, rtol=1e-12)


def test_twenty_points_fill_their_ranges():
    found = trials.trials()
    space = trials.SPACE
    assert len(set(found)) == trials.NUM_TRIALS == 20
    assert trials.trials(num_trials=7) == found[:7]
    values = np.array(found)
    ranges = [space.learning_rate, space.weight_decay, space.warmup, 1 - np.array(space.one_minus_beta2[::-1])]
    for column, (low, high) in zip(values.T, ranges, strict=True):
        assert np.all((low <= column) & (column <= high))
    places = np.log(values[:, 0] / space.learning_rate[0]) / np.log(space.learning_rate[1] / space.learning_rate[0])
    assert set(np.histogram(places, 4, (0, 1))[0]) <= {4, 5, 6}  # of each quarter
