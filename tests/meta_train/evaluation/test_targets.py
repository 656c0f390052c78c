"""Time to target: crossings of made-up curves, the targets, and the scores."""

import json

import numpy as np
import pytest

from meta_train.evaluation import scores
from meta_train.evaluation import targets
from meta_train.evaluation.evaluate import Along
from meta_train.evaluation.evaluate import Result
from meta_train.evaluation.protocol import Judgement
from meta_train.evaluation.timing import Timing

STEPS = 20


def _result(name, rate, per_seed, held_out, along=True):
    """Training losses that fall from 100 by a number of each seed a step; held-out losses at a quarter of the way."""
    losses = 100.0 - np.arange(1, STEPS + 1) * np.array(per_seed)[:, None]
    values = np.array(held_out, np.float64)  # [marks, seeds]
    marks = np.array([5, 10, 15, 20])
    return Result(name, losses, {"loss": values[-1]}, rate, along=Along(marks, {"loss": values}) if along else None)


def _falling(*ends):
    return [[end + 6, end + 4, end + 2, end] for end in ends]


def _judgement(along=True, tuned=0.1):
    held_out = lambda *ends: np.array(_falling(*ends)).T
    return Judgement(
        [_result("mine", None, [4.0, 2.0, 2.0], held_out(0.0, 2.0, 9.0), along)],
        [
            _result("Adam 0.1 (tuned)", tuned, [1.0, 2.0, 0.5], held_out(3.0, 2.0, 9.0), along),
            _result("Adam 0.1 (tuned, held out)", tuned, [0.5, 0.5, 0.5], held_out(4.0, 4.0, 4.0), along),
            _result("Adam 1e-3", None, [3.0, 3.0, 3.0], held_out(1.0, 1.0, 1.0), along),
        ],
        {},
    )


def test_first_below_is_where_straight_lines_cross():
    marks, losses = np.array([10.0, 20.0, 30.0]), np.array([[4.0, 4.0, 9.0], [2.0, np.inf, 8.0], [0.0, 1.0, np.nan]])
    np.testing.assert_allclose(targets.first_below(marks, losses, 3.0), [15.0, 30.0, np.inf])
    np.testing.assert_allclose(targets.first_below(marks, losses, 2.0), [20.0, 30.0, np.inf])
    np.testing.assert_allclose(targets.first_below(marks, losses, 4.0), [10.0, 10.0, np.inf])
    np.testing.assert_array_equal(targets.first_below(marks, np.full((3, 1), np.inf), np.inf), [np.inf])


def test_targets_are_medians_of_the_best_tuned_baseline_and_times_follow():
    """Means over two steps of 100 - n t are 100 - n (t - 1/2): Adam's at the end is 80.5, its median seed's."""
    training, held_out = targets.races({"task": _judgement()})
    assert (training.loss, training.unit) == ("training loss", "steps")
    assert training.targets == {"task": 80.5}
    np.testing.assert_allclose(
        [one.times["task"] for one in training.standings], [19.5 / 2 + 0.5, 20.0, np.inf, 19.5 / 3 + 0.5]
    )
    assert held_out.loss == "held-out loss"
    assert held_out.targets == {"task": 3.0}
    np.testing.assert_allclose([one.times["task"] for one in held_out.standings], [17.5, 20.0, np.inf, 15.0])
    assert [one.optimizer for one in held_out.standings] == [
        "mine",
        "Adam (tuned)",
        "Adam (tuned, held out)",
        "Adam 1e-3",
    ]
    expected = scores.score(np.array([[17.5], [20.0], [np.inf], [15.0]]))
    np.testing.assert_allclose([one.score for one in held_out.standings], expected)
    assert all(one.low <= one.score <= one.high for one in held_out.standings)


def test_without_tuned_baselines_or_metrics_along_the_way_or_baselines():
    (training,) = targets.races({"task": _judgement(along=False, tuned=None)})
    assert training.targets == {"task": 100 - 3 * 19.5}
    assert targets.races({"task": _judgement()._replace(baselines=[])}) == ()
    assert targets.as_text(()) == ""


def test_the_best_baseline_reaches_its_target_with_an_even_number_of_seeds():
    adam = _result("Adam 1 (tuned)", 1.0, [1.0, 3.0], np.array(_falling(1.0, 5.0)).T)
    for race in targets.races({"task": Judgement([], [adam], {})}):
        assert race.standings[0].score == 1.0


def test_seconds_are_steps_times_the_time_of_a_step():
    """Both rows of a tuned baseline have its time. Half as fast, mine loses what it won in steps."""
    timings = {
        name: Timing(seconds, 9.0) for name, seconds in (("mine", 0.2), ("Adam (tuned)", 0.1), ("Adam 1e-3", 0.4))
    }
    found = targets.races({"task": _judgement()}, {"task": timings})
    assert [(race.loss, race.unit) for race in found] == [
        (loss, unit) for loss in ("training loss", "held-out loss") for unit in ("steps", "seconds")
    ]
    np.testing.assert_allclose([one.times["task"] for one in found[3].standings], [3.5, 2.0, np.inf, 6.0])
    with pytest.raises(KeyError, match=r"Adam \(tuned\)"):
        targets.races({"task": _judgement()}, {"task": {"mine": Timing(0.2, 9.0)}})


def test_text_and_json():
    found = targets.races({"one": _judgement(), "other": _judgement()})
    lines = targets.as_text(found).splitlines()
    assert lines[0].split("  ")[0] == "AlgoPerf's score, 2 tasks"
    assert lines[0].endswith("steps to held-out loss")
    assert [cell.strip() for cell in lines[3].split("  ")[1:3]] == ["Adam (tuned, held out)", "0.00 (0.00 to 0.00)"]
    one = targets.as_text(targets.races({"one": _judgement()})).splitlines()
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in one]
    assert cells[0] == ["Time to target", "steps to training loss 80.5", "steps to held-out loss 3"]
    assert cells[1] == ["mine", "10.25", "17.5"]
    assert cells[3] == ["Adam (tuned, held out)", "never", "never"]
    record = json.loads(json.dumps(targets.as_json(found), allow_nan=False))
    assert record[0]["standings"][2]["times"] == {"one": None, "other": None}
    assert record[1]["targets"] == {"one": 3.0, "other": 3.0}
