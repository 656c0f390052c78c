"""Metrics in memory and on disk: strict JSON, damaged lines, and lines that are cut short."""

import json
import math

import numpy as np
import pytest

from meta_train.training import run_metrics
from meta_train.training.engine import Metrics

NAN, INF = math.nan, math.inf


def _rows(loss, task_loss, grad_norm, known):
    """Two outer steps with the same numbers, and a report of the outer optimizer."""
    twice = lambda x, kind=np.float32: np.array([x, x], kind)
    members = np.array([[known, 2.0]] * 2, np.float32)
    outer = {"member_loss": members, "skipped": twice(4, np.int32), "step_norm": twice(known)}
    counts = twice(3, np.int32), twice(30, np.int32)
    return Metrics(twice(loss), twice([task_loss, 1.0]), twice(grad_norm), *counts, twice(known), twice(known), outer)


def test_records():
    finite = run_metrics.records(_rows(0.5, 0.25, 2.0, 0.125), ["a", "b"], step=10, count=2, seconds=1.23456)
    first = {"step": 11, "loss": 0.5, "loss/a": 0.25, "loss/b": 1.0, "grad_norm": 2.0, "dropped": 3, "inner_steps": 30}
    first |= {"gradient_variance": 0.125, "snr": 0.125, "outer/member_loss": [0.125, 2.0], "outer/skipped": 4}
    assert finite == [first | {"outer/step_norm": 0.125, "seconds": 1.235}, {**finite[0], "step": 12}]


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_numbers_that_are_not_finite_are_null_on_disk_and_come_back_the_same(tmp_path, value):
    found = run_metrics.records(_rows(value, value, value, value), ["a", "b"], step=0, count=2, seconds=1.0)
    text = run_metrics.to_text(found)
    lines = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    for name in ("loss", "loss/a", "grad_norm", "gradient_variance", "snr", "outer/step_norm"):
        assert lines[0][name] is None
    assert lines[0]["outer/member_loss"] == [None, 2.0]
    (tmp_path / "metrics.jsonl").write_text(text)
    back = run_metrics.read(tmp_path / "metrics.jsonl")
    np.testing.assert_equal(back, found)
    assert all(math.isnan(back[0][name]) for name in ("loss", "loss/a", "grad_norm"))
    assert back[0]["snr"] is None
    assert run_metrics.to_text(back) == text


def _line(step, loss="0.5", seconds='"seconds": 0.1'):
    return f'{{"step": {step}, "loss": {loss}, "grad_norm": 1.0, "dropped": 0, "inner_steps": 9, {seconds}}}\n'


GOOD = _line(1) + _line(2)


def test_nan_in_files_of_earlier_versions(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(_line(1, "NaN") + _line(2, "-Infinity"))
    assert math.isnan(run_metrics.read(path)[0]["loss"])
    assert run_metrics.to_text(run_metrics.read(path)) == _line(1, "null") + _line(2, "null")


@pytest.mark.parametrize("rest", ["", '{"step": 3, "lo', "{", "\0\0\0", '{"step": 3, "loss/ü'])
def test_a_last_line_that_is_cut_short_is_left_out(tmp_path, rest):
    (tmp_path / "metrics.jsonl").write_bytes((GOOD + rest).encode()[: None if rest.isascii() else -1])
    assert [record["step"] for record in run_metrics.read(tmp_path / "metrics.jsonl")] == [1, 2]


def test_a_last_line_may_lack_its_end(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(GOOD + _line(3).strip())
    assert len(run_metrics.read(tmp_path / "metrics.jsonl")) == 3
    (tmp_path / "metrics.jsonl").write_text("")
    assert run_metrics.read(tmp_path / "metrics.jsonl") == []


@pytest.mark.parametrize(
    ("line", "damage"),
    [
        ('{"step": 3, "lo', "it is not JSON (Unterminated string"),
        ("", "it is not JSON (Expecting value, column 1)"),
        ("\xff\0", "it is not JSON"),
        ("3", "it is not a JSON object"),
        (_line(4), "it must be that of step 3, and is that of step 4"),
        ('{"loss": 1.0}', "it must be that of step 3, and is that of step None"),
        ('{"step": 3, "loss": 1.0, "dropped": 0}', "it lacks grad_norm, inner_steps, seconds"),
        (_line(3, '"low"'), "a loss or grad_norm is neither a number nor null"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, line, damage):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes((GOOD + line.strip("\n") + "\n" + _line(4)).encode("latin-1"))
    with pytest.raises(ValueError) as error:
        run_metrics.read(path)
    assert str(error.value).startswith(f"{path}, line 3, is damaged: {damage}")
    assert str(error.value).endswith("Mend that line, or delete it and those below.")
    found, told = run_metrics.read_until_damage(path)
    assert [record["step"] for record in found] == [1, 2]
    assert told in str(error.value)


def test_metrics_of_another_program_are_told_by_their_first_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 0.5}\n')
    with pytest.raises(ValueError, match=r"line 1, is damaged: it lacks dropped, grad_norm, inner_steps, seconds"):
        run_metrics.read(path)
