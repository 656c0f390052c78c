"""The grid of constants: its settings, and that the best one is found."""

import numpy as np

from meta_train.adaptation.journal import Journal
from meta_train.tuning import grid


def test_a_hundred_different_settings():
    tried = grid.settings(100)
    assert len(set(tried)) == 100
    assert {round(each.learning_rate / (1 - each.momentum), 6) for each in tried} == {
        round(rate, 6) for rate in np.geomspace(1e-3, 10.0, 10)
    }
    assert set(grid.settings(30)) < set(tried)


def test_the_best_is_found_and_remembered():
    """The measure is lowest at a rate of 0.03, no momentum and a decay of 0.001, and every seed adds what it likes."""
    asked = []

    def measure(points, seeds, stream, num_steps, *, data=None):
        asked.append((len(points), list(seeds), num_steps))
        rate, momentum, decay = np.asarray(points).reshape(-1, 3, 2)[..., 0].T
        losses = (rate - np.log(0.03)) ** 2 + (momentum + 5.0) ** 2 + (decay - np.log(1e-3)) ** 2
        return losses[:, None] + np.array([0.1 * seed for seed in seeds])

    journal = Journal(None, {}, resume=False)
    for _ in range(2):  # the second time nothing is measured
        found = grid.search(measure, journal, 100, 5, num_blocks=2)
    assert asked == [(100, [0], 5), (grid.NUM_FINALISTS, [1, 2, 3], 5)]
    nearest = min({each.learning_rate for each in grid.settings(100)}, key=lambda rate: abs(np.log(rate / 0.03)))
    assert found.setting == grid.Setting(nearest, 0.0, 1e-3)
    assert found.tried == 100 and not found.at_edge
    np.testing.assert_allclose(found.theta, grid.as_point(found.setting, 2))
