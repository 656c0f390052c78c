"""Speedups, interquartile means, intervals and profiles on numbers that are known."""

import numpy as np
import pytest

from meta_train.evaluation import scores

LADDER = (0.25, 0.5, 1.0, 2.0, 4.0)


def test_speedup_of_a_power_law():
    """Loss = steps^-2: for the loss c² a baseline needs 1 / c of the steps."""
    steps = np.array(LADDER)[:, None]
    for factor in (0.3, 1.0, 1.7, 3.9):
        found = scores.speedup(np.array([factor**-2.0]), steps**-2.0)
        np.testing.assert_allclose(found, factor, rtol=1e-12)


def test_speedup_stays_on_the_ladder():
    losses = np.array([[8.0, 8.0], [4.0, 4.0], [2.0, 2.0], [1.0, 1.0], [0.5, 0.5]])
    np.testing.assert_allclose(scores.speedup(np.array([0.1, 50.0]), losses), [4.0, 0.25])
    np.testing.assert_allclose(scores.speedup(np.array([np.inf]), losses[:, :1]), [0.25])


def test_shares_that_are_cut():
    """Those at the first and at the last rung; the mean is a bound if they reach into the middle half."""
    losses = np.array([[8.0, 8.0, 8.0], [4.0, 4.0, 4.0], [2.0, 2.0, 2.0], [1.0, 1.0, 1.0], [0.5, 0.5, 0.5]])
    found = scores.cut(scores.speedup(np.array([0.1, 50.0, 2.0]), losses))
    assert found == (1 / 3, 1 / 3)
    assert scores.cut(np.array([0.25, 0.25 + 1e-3, 4.0 - 1e-3, 1.0])) == (0.25, 0.0)
    signs = {(0.25, 0.25): "", (0.25, 0.26): "≥", (0.26, 0.25): "≤", (0.3, 0.3): "≈"}
    assert {shares: scores.Cut(*shares).sign for shares in signs} == signs


def test_speedup_takes_the_first_rung_that_is_low_enough():
    """A baseline that gets worse again after it was good enough, one that diverges, and losses of zero."""
    down_and_up = np.array([8.0, 4.0, 1.0, 9.0, 9.0])[:, None]
    np.testing.assert_allclose(scores.speedup(np.array([2.0]), down_and_up), np.sqrt(0.5), rtol=1e-12)
    diverging = np.array([np.inf, 4.0, np.inf, np.inf, np.inf])[:, None]
    np.testing.assert_allclose(scores.speedup(np.array([4.0]), diverging), 0.5)
    np.testing.assert_allclose(scores.speedup(np.array([3.0]), diverging), 4.0)
    np.testing.assert_allclose(scores.speedup(np.array([0.0]), np.array([4, 2, 0, 0, 0.0])[:, None]), 1.0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9])
def test_interquartile_mean_equals_its_integral(count):
    """Of the step function of the sorted values over 0…1, from a quarter to three quarters."""
    values = np.random.default_rng(count).normal(size=count)
    fine = np.repeat(np.sort(values), 400)
    middle = fine[len(fine) // 4 : 3 * len(fine) // 4]
    np.testing.assert_allclose(scores.interquartile_mean(values.reshape(1, -1)), middle.mean(), rtol=1e-12)


def test_the_interval_holds_the_mean_as_often_as_it_says():
    """Of normal numbers; the bootstrap of ten seeds is a little too sure."""
    random = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        low, high = scores.interval(random.normal(size=(4, 10)), np.mean, level=0.9, num_samples=300)
        held += low <= 0 <= high
    assert 0.8 < held / 200 < 0.95


def test_the_interval_draws_seeds_within_their_task():
    """Tasks that differ make no spread if their seeds agree."""
    values = np.array([[1.0, 1.0, 1.0], [1e6, 1e6, 1e6]])
    assert scores.interval(values, scores.interquartile_mean) == (500000.5, 500000.5)


def test_profile():
    losses = np.array([[1.0, 4.0, np.inf], [2.0, 1.0, np.inf], [np.inf, 1.0, 3.0]])
    found = scores.profile(losses, np.array([1.0, 2.0, 4.0, 1e9]))
    np.testing.assert_allclose(found, np.array([[1, 1, 2, 2], [1, 2, 2, 2], [2, 2, 2, 2]]) / 3)


def test_score_is_the_exact_integral_up_to_the_grid():
    """A step at the factor r counts 4 - r of 3. The grid of 100 points is off by half a point at most."""
    times = np.array([[10.0, 5.0, 9.0, np.inf], [20.0, 5.0, 30.0, np.inf], [np.nan, 21.0, 3.0, np.inf]])
    exact = np.array([[3.0, 3.0, 1.0, 0.0], [2.0, 3.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0]]).sum(axis=1) / 3 / 4
    np.testing.assert_allclose(scores.score(times), exact, atol=0.5 * 3 / 99)


def test_score_is_that_of_a_loop():
    """Restated one optimizer, task and factor at a time, with the trapezoid rule written out."""
    random = np.random.default_rng(0)
    times = np.exp(random.normal(size=(4, 9)))
    times[random.random(times.shape) < 0.2] = np.inf
    for mine, found in zip(times, scores.score(times), strict=True):
        heights = []
        for point in range(100):
            factor, within = 1 + 3 * point / 99, 0
            for task in range(9):
                best = min(each[task] for each in times)
                within += bool(mine[task] < np.inf and mine[task] <= factor * best)
            heights.append(within / 9)
        area = sum((heights[i] + heights[i + 1]) / 2 * (3 / 99) for i in range(99))
        np.testing.assert_allclose(found, area / 3, rtol=1e-12)


def test_intervals_of_scores_are_those_of_resampled_seeds():
    """Equal seeds leave no spread. One seed of three that is slow moves the median if it is drawn twice, 7 in 27."""
    times = np.ones((2, 1, 3))
    times[1] = [[2.0, 2.0, 9.0]]
    np.testing.assert_allclose(scores.score_of_medians(times), [1.0, scores.score(np.array([[1.0], [2.0]]))[1]])
    low, high = scores.score_intervals(times, level=0.4)
    assert low[0] == high[0] == 1.0
    assert low[1] == high[1] == scores.score_of_medians(times)[1]  # 0.26 is below 0.3
    low, _ = scores.score_intervals(times, level=0.6)
    assert low[1] == 0.0
