"""The verdict: wins, losses, speedups and divergence, from results that are made up."""

import json

import numpy as np

from meta_train.evaluation import verdict
from meta_train.evaluation.evaluate import Result
from meta_train.evaluation.protocol import Judgement


def _result(name, final, held_out, rate=None):
    losses = np.full((2, 10), 1.0)
    losses[:, -1] = final
    return Result(name, losses, {"loss": np.full(2, held_out)}, rate, 0.5, 1234)


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


def test_ending_above_the_first_loss_is_divergence():
    assert FOUND.diverged == ("hard", "worse")


def test_text_and_json():
    text = verdict.as_text(FOUND, 3)
    assert "mine <1> on 3 tasks" in text
    assert "training loss on  2, held-out loss on  1; not on hard" in text
    assert "ended above its first loss: hard, worse" in text
    record = json.loads(json.dumps(verdict.as_json(FOUND)))
    assert record["against"][0]["lost"] == ["hard"]
    assert record["speedups"][0]["baseline"] == "adam"
