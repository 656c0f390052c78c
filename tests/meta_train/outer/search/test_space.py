"""Dimensions: their ends, their proportions, and what they refuse."""

import collections

import numpy as np
import pytest

from meta_train.outer import search
from meta_train.outer.search.space import check_space
from meta_train.outer.search.space import decode


@pytest.mark.parametrize(
    ("dimension", "low", "middle", "high"),
    [
        (search.real(-2.0, 6.0), -2.0, 2.0, 6.0),
        (search.real(1e-5, 1e-1, log=True), 1e-5, 1e-3, 1e-1),
        (search.integer(3, 7), 3, 5, 7),
        (search.integer(1, 8, log=True), 1, 3, 8),
        (search.choice("a", "b", "c"), "a", "b", "c"),
    ],
)
def test_ends_and_middle(dimension, low, middle, high):
    assert dimension.decode(0.0) == low
    assert dimension.decode(1.0) == high
    assert dimension.decode(0.5) == (pytest.approx(middle) if isinstance(middle, float) else middle)
    assert type(dimension.decode(0.5)) is type(middle)


def test_proportions():
    units = (np.arange(6000) + 0.5) / 6000
    count = lambda dimension: collections.Counter(dimension.decode(float(unit)) for unit in units)
    assert count(search.integer(-1, 1)) == {-1: 2000, 0: 2000, 1: 2000}
    assert count(search.choice(None, 2.5)) == {None: 3000, 2.5: 3000}
    logarithmic = count(search.integer(1, 7, log=True))
    np.testing.assert_allclose(
        [logarithmic[n] for n in range(1, 8)], 6000 * np.log2(1 + 1 / np.arange(1, 8)) / 3, atol=1
    )
    rates = np.array([search.real(0.01, 100.0, log=True).decode(float(unit)) for unit in units])
    assert np.mean(rates < 1.0) == 0.5
    assert rates.min() >= 0.01 and rates.max() <= 100.0


def test_a_vector_has_a_number_for_each_setting():
    space = {"a": search.integer(0, 9), "b": search.choice("x", "y")}
    assert decode(space, np.array([0.55, 0.7])) == {"a": 5, "b": "y"}
    with pytest.raises(ValueError, match="shorter"):
        decode(space, np.array([0.5]))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: search.real(1.0, 1.0), ValueError, "low must lie below high, both finite, got 1.0 and 1.0"),
        (lambda: search.real(0.0, np.inf), ValueError, "both finite, got 0.0 and inf"),
        (lambda: search.real(0.0, 1.0, log=True), ValueError, "must be positive, got low=0.0"),
        (lambda: search.integer(0, 4, log=True), ValueError, "must be positive, got low=0"),
        (lambda: search.integer(0, 1.5), TypeError, "high must be an integer, got 1.5: use real"),
        (lambda: search.integer(False, 2), TypeError, "low must be an integer, got False"),
        (lambda: search.choice(), ValueError, "at least one option, got none"),
        (lambda: check_space({}), ValueError, "at least one dimension, got none"),
        (lambda: check_space({"rate": (0, 1)}), TypeError, r"'rate' must be a dimension made by .* got \(0, 1\)"),
    ],
)
def test_wrong_dimensions(make, error, message):
    with pytest.raises(error, match=message):
        make()
