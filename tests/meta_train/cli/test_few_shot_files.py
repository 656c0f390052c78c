"""The report of `meta-train few-shot`: what a run took, and plain values only."""

import json
from math import nan
import sys
import types

import numpy as np
import pytest

from meta_train.cli import few_shot_data
from meta_train.cli import few_shot_files


def rows(*seconds):
    return [{"step": i + 1, "loss": 1.0, "seconds": second} for i, second in enumerate(seconds)]


def test_the_clock_adds_up_the_sessions_of_a_run():
    took = few_shot_files.clock(rows(8.0, 8.0, 9.0, 9.0, 5.0, 5.0, 7.0, 7.0, 9.0, 9.0))
    assert took["seconds"] == 18.0  # 9 of the first session, 9 of the second
    assert took["outer_steps_per_second"] == 1.0  # 4 steps in the 4 seconds after the second session's first dispatch


def test_no_rate_from_a_single_dispatch():
    assert few_shot_files.clock(rows(8.0, 8.0))["outer_steps_per_second"] is None


@pytest.mark.parametrize("damaged", [False, True])
def test_cpu_seconds_add_up_and_the_highest_peak_stays(damaged, tmp_path, monkeypatch):
    monkeypatch.setattr(few_shot_files, "_peak_megabytes", lambda: 700)
    assert few_shot_files.note_session(tmp_path, 3.0) == {"cpu_seconds": 3.0, "peak_megabytes": 700}
    if damaged:
        (tmp_path / "sessions.json").write_text("[1", encoding="utf-8")
    monkeypatch.setattr(few_shot_files, "_peak_megabytes", lambda: 600)
    expected = {"cpu_seconds": 2.0, "peak_megabytes": 600} if damaged else {"cpu_seconds": 5.0, "peak_megabytes": 700}
    assert few_shot_files.note_session(tmp_path, 2.0) == expected


def test_where_the_system_says_no_peak(tmp_path, monkeypatch):
    assert few_shot_files._peak_megabytes() > 50
    monkeypatch.setitem(sys.modules, "resource", None)
    assert few_shot_files.note_session(tmp_path, 2.0)["peak_megabytes"] is None


def test_a_report_is_strict_json(tmp_path):
    setting = few_shot_data.build(few_shot_data.DataKind.SINUSOID)
    learner = types.SimpleNamespace(
        name="maml", num_steps=1, theta={"w": np.zeros((2, 3))}, estimator=types.SimpleNamespace(num_particles=4)
    )
    report = few_shot_files.report(
        setting,
        learner,
        command="few-shot maml",
        seed=0,
        outer_rate=None,
        score="mean squared error",
        rows=[{"name": "maml", "inner_steps": 1, "mean": nan, "half_width": nan}],
        costs={"seconds": 1.0},
        metrics=[{"loss": 1.0}] * 38 + [{"loss": 3.0}, {"loss": nan}],
    )
    few_shot_files.write_report(tmp_path / "report.json", report)
    read = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert read == report
    assert read["evaluation"][0]["mean"] is None
    assert (read["weights"], read["outer_steps"], read["training"]["last_meta_loss"]) == (6, 40, 3.0)
