"""The search on a function whose lowest point is known, in place of trainings."""

import numpy as np
import pytest

from meta_train.adaptation import constants
from meta_train.adaptation import search as searching
from meta_train.adaptation.journal import Journal
from meta_train.adaptation.plan import SIZES
from meta_train.adaptation.plan import Plan

NAMES = constants.names()
GOAL = np.zeros(len(NAMES))
GOAL[[NAMES.index(name) for name in ("step_size", "weight_decay", "q_growth", "k_blocks")]] = (0.6, -0.8, 0.5, 0.0)
WEIGHTS = np.array([0.0 if name.endswith("blocks") else 0.2 for name in NAMES])  # blocks change nothing


class Clock:
    """Each generation of CMA-ES takes a second."""

    def __init__(self, seconds):
        self.seconds, self.lines = seconds, []

    def left(self):
        return self.seconds - sum(line.startswith("generation") for line in self.lines)

    def tell(self, line):
        self.lines.append(line)


def measure(points, seeds, stream, num_steps, *, data=None):
    """Depends on the seed, alike for all points, and a little for each."""
    noise = np.array([np.random.default_rng(seed).normal() for seed in seeds])
    own = np.array([[np.sin(1e3 * WEIGHTS @ point + seed) for seed in seeds] for point in points])
    return (WEIGHTS * (points - GOAL) ** 2).sum(axis=1)[:, None] + noise + 0.01 * own


def run(journal, *, seconds=30.0, trainings=3000, measure=measure):
    plan = Plan(100, trainings, seconds, 10.0, SIZES[0])
    clock = Clock(seconds + 10.0)
    found = searching.search(measure, journal, plan, clock, at_a_time=16, until=10.0, seed=0)
    return found, clock


def no_journal():
    return Journal(None, {}, resume=False)


def test_it_comes_close_to_the_lowest_point():
    found, _ = run(no_journal())
    start, end = (
        measure(np.stack([point]), range(4), 0, 0).mean() for point in (GOAL * 0, found.points[list(found.points)[-1]])
    )
    lowest = measure(np.stack([GOAL]), range(4), 0, 0).mean()
    assert end - lowest < 0.1 * (start - lowest)
    assert abs(found.points["sweep"] - GOAL).max() < 0.3  # a parabola through three points is exact here, but for noise
    moved = np.any([point != 0 for point in found.points.values()], axis=0)
    assert not moved[[name.endswith("blocks") for name in NAMES]].any()
    assert found.signal > 3 * found.noise > 0


def test_it_ends_when_the_time_is_out():
    found, clock = run(no_journal(), seconds=3.0)
    assert found.generations == 3 and clock.left() == 10.0
    assert list(found.points)[-1] == "CMA-ES, generation 3"


def test_few_trainings_are_for_the_main_coordinates():
    found, _ = run(no_journal(), seconds=1.0, trainings=60)
    assert found.sweep.names == NAMES[: constants.NUM_MAIN]
    assert not any(point[constants.NUM_MAIN :].any() for point in found.points.values())


def test_it_stops_early_where_there_is_nothing_to_find(monkeypatch):
    monkeypatch.setattr(searching._Rounds, "still", lambda self, seconds: 16 * 40)
    noise = lambda points, seeds, *rest: np.random.default_rng(len(points)).normal(size=(len(points), len(seeds)))
    flat = lambda points, seeds, *rest: 0.01 * noise(points, seeds) + np.abs(points).sum(axis=1, keepdims=True)
    found, _ = run(no_journal(), measure=flat)
    assert found.stopped_early
    assert (found.seeds, found.generations) == (2, 10)  # of 20, at the second of three checks
    assert not found.points["sweep"].any()


def test_a_resumed_search_goes_the_same_way(tmp_path):
    path, seen = tmp_path / "journal.jsonl", []

    def until(number):
        def stopping(points, *rest):
            if len(seen) == number:
                raise KeyboardInterrupt
            seen.append(points)
            return measure(points, *rest)

        return stopping

    whole, _ = run(Journal(path, {}, resume=False), seconds=6.0)
    first, second = tmp_path / "first.jsonl", []
    with pytest.raises(KeyboardInterrupt):
        run(Journal(first, {}, resume=False), seconds=6.0, measure=until(5))
    lines = first.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 5 + 1  # settings, measurements, and the number of generations
    resumed, _ = run(
        Journal(first, {}, resume=True),
        seconds=6.0,
        measure=lambda points, *rest: second.append(1) or measure(points, *rest),
    )
    assert len(second) == 3  # of sweep, combinations and six generations
    np.testing.assert_array_equal(resumed.points["CMA-ES, generation 6"], whole.points["CMA-ES, generation 6"])


def test_no_lane_is_idle():
    assert searching._generation(25, 1, 16) == (16, 1)
    assert searching._generation(25, 1, 32) == (16, 2)
    assert searching._generation(8, 1, 2) == (10, 1)
