"""The verdict: wins, losses, speedups and divergence, from results that are made up."""

import json

import numpy as np

from meta_train.evaluation import verdict
from meta_train.evaluation.evaluate import Along
from meta_train.evaluation.evaluate import Result
from meta_train.evaluation.protocol import Judgement


def _result(name, final, held_out, rate=None, **rest):
    losses = np.full((2, 10), 1.0)
    losses[:, -1] = final
    return Result(name, losses, {"loss": np.full(2, held_out), **rest}, rate, 0.5, 1234)


JUDGEMENTS = {
    "easy": Judgement(
        [_result("mine <1>", 0.1, 3.0)],
        [_result("Adam 0.1 (tuned)", 0.2, 2.0, 0.1), _result("Adam 1e-3", 0.1, 4.0)],
        {"adam": np.array([[2.0, 2.0]])},
    ),
    "hard": Judgement(
        [_result("mine <1>", [0.1, np.nan], 3.0)],
        [_result("Adam 0.01 (tuned)", 0.2, 3.0, 0.01), _result("Adam 1e-3", np.inf, 4.0)],
        {"adam": np.array([[0.5, 4.0]])},
    ),
    "worse": Judgement(
        [_result("mine <1>", [0.1, 1.5], 3.0)],
        [_result("Adam 1 (tuned)", 0.9, 2.0, 1.0), _result("Adam 1e-3", 0.7, 4.0)],
        {"adam": np.array([[1.0, 1.0]])},
    ),
}
FOUND = verdict.verdict(JUDGEMENTS)


def test_wins_and_losses():
    """A seed that diverges loses the task, unless the baseline diverges too; equal losses are won."""
    tuned, untuned = FOUND.against
    assert (FOUND.optimizer, tuned.baseline, untuned.baseline) == ("mine <1>", "Adam (tuned)", "Adam 1e-3")
    assert (tuned.won, tuned.lost) == (("easy", "worse"), ("hard",))
    assert (untuned.won, untuned.lost) == (("easy", "hard"), ("worse",))
    assert tuned.won_held_out == ("hard",)
    assert untuned.won_held_out == ("easy", "hard", "worse")


def test_speedup_over_tasks_and_seeds():
    (fast,) = FOUND.speedups
    assert fast.mean == (0.5 * 1 + 1 + 2 + 0.5 * 2) / 3  # the middle half of .5, 1, 1, 2, 2, 4
    assert fast.low <= fast.mean <= fast.high


def test_speedups_that_are_cut_are_told():
    """Two of six runs are cut at 4: the mean is a bound, and has a sign. One of six is too few for that."""
    line = lambda found: next(line for line in verdict.as_text(found, 3).splitlines() if "speedup" in line)
    assert FOUND.speedups[0].cut == (0.0, 1 / 6)
    assert "tuned: 1.50 (" in line(FOUND) and line(FOUND).endswith(", within 0.25 to 4; 17% of runs ≥ 4")
    easy = JUDGEMENTS["easy"]._replace(speedups={"adam": np.array([[0.25, 4.0]])})
    found = verdict.verdict(JUDGEMENTS | {"easy": easy})
    assert "tuned: ≥ " in line(found) and line(found).endswith("; 17% of runs ≤ 0.25, 33% of runs ≥ 4")
    record = json.loads(json.dumps(verdict.as_json(found)))["speedups"][0]
    assert record["cut"] == {"below": 1 / 6, "above": 1 / 3}
    none = {name: judged._replace(speedups={"adam": np.ones((1, 2))}) for name, judged in JUDGEMENTS.items()}
    assert line(verdict.verdict(none)).endswith("tuned: 1.00 (1.00 to 1.00), within 0.25 to 4")


def test_tasks_whose_tuned_rate_is_at_the_edge_of_the_grid_are_named():
    hard = JUDGEMENTS["hard"]
    edge = hard._replace(baselines=[hard.baselines[0]._replace(at_edge=True), hard.baselines[1]])
    found = verdict.verdict(JUDGEMENTS | {"hard": edge})
    assert [rival.at_edge for rival in found.against] == [("hard",), ()]
    assert "  rate of Adam (tuned) at the edge of its grid on hard\n" in verdict.as_text(found, 3)
    assert "edge" not in verdict.as_text(FOUND, 3)
    assert json.loads(json.dumps(verdict.as_json(found)))["against"][0]["at_edge"] == ["hard"]


def test_ending_above_the_first_loss_is_divergence():
    assert FOUND.diverged == ("hard", "worse")


def test_text_and_json():
    text = verdict.as_text(FOUND, 3)
    assert "mine <1> on 3 tasks" in text
    lines = [line.split() for line in text.splitlines()]
    assert lines[1] == ["at", "or", "below", "training", "loss", "held-out", "loss"]
    assert lines[2] == ["Adam", "(tuned)", "2", "1"]
    assert lines[3] == ["Adam", "1e-3", "2", "3"]
    assert "training loss above that of Adam (tuned) on hard\n" in text
    assert "ended above its first loss: hard, worse" in text
    record = json.loads(json.dumps(verdict.as_json(FOUND)))
    assert record["against"][0]["lost"] == ["hard"]
    assert record["speedups"][0]["baseline"] == "adam"


def test_errors_are_counted_where_there_are_some():
    """From accuracies or, in their place, errors. A tie is won."""
    accuracy = lambda *values: {"accuracy": np.array(values)}
    judged = {
        "worse": Judgement(
            [_result("mine", 0.1, 1.0, **accuracy(0.5, 0.7))], [_result("Adam", 0.1, 1.0, **accuracy(0.7, 0.7))], {}
        ),
        "equal": Judgement(
            [_result("mine", 0.1, 1.0, **accuracy(0.5, 0.7))], [_result("Adam", 0.1, 1.0, **accuracy(0.7, 0.5))], {}
        ),
        "named": Judgement(
            [_result("mine", 0.1, 1.0, error=np.zeros(2))], [_result("Adam", 0.1, 1.0, error=np.ones(2))], {}
        ),
        "none": Judgement([_result("mine", 0.1, 1.0)], [_result("Adam", 0.1, 1.0)], {}),
    }
    found = verdict.verdict(judged)
    assert found.against[0].won_error == ("equal", "named")
    assert found.against[0].with_error == ("worse", "equal", "named")
    assert found.against[0].won_best is None
    assert verdict.as_text(found, 4).splitlines()[2].split() == ["Adam", "4", "4", "2", "of", "3"]


def test_the_best_along_the_way_has_a_column():
    """A held-out loss that rises again is won by its lowest value; NaN is never the lowest."""
    along = lambda *values: Along(np.array([5, 10]), {"loss": np.array([values, [9.0, 9.0]])})
    mine = _result("mine", 0.1, 9.0)._replace(along=along(1.0, 1.0))
    rivals = [_result("Adam", 0.1, 8.0)._replace(along=along(*values)) for values in ((2.0, 2.0), (np.nan, 0.5))]
    found = verdict.verdict({"rising": Judgement([mine], rivals, {})})
    assert [rival.won_best for rival in found.against] == [("rising",), ("rising",)]
    assert [rival.won_held_out for rival in found.against] == [(), ()]
    assert verdict.as_text(found, 1).splitlines()[2].split() == ["Adam", "1", "0", "1"]
