"""A look at a file of metrics: short and long ones, those that are being written, and damaged ones."""

import json
import math

import numpy as np
import pytest

from meta_train.training import metrics_sample


def _line(step, loss=None, **more):
    return json.dumps({"step": step, "loss": 1.0 / step if loss is None else loss, **more}) + "\n"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def test_an_empty_file_and_one_whose_first_line_is_being_written(path):
    for text in ("", '{"step": 1, "lo'):
        path.write_text(text)
        assert metrics_sample.sample(path) == ([], [], None)
    with pytest.raises(FileNotFoundError):
        metrics_sample.sample(path.with_name("none"))


def test_a_short_file_is_read_whole(path):
    lines = [_line(step) for step in range(1, 101)]
    path.write_text("".join(lines) + '{"step": 101')
    found = metrics_sample.sample(path, places=10)
    assert [record["step"] for record in found.last] == list(range(1, 101))
    expected = [np.mean([1 / step for step in range(low + 1, low + 11)]) for low in range(0, 100, 10)]
    np.testing.assert_allclose(found.curve, expected)
    assert found.damage is None
    assert len(metrics_sample.sample(path, places=7).curve) == 7


def test_losses_that_are_not_finite_are_left_out_of_means(path):
    text = '{"step": 1, "loss": null}\n{"step": 2, "loss": 4.0}\n{"step": 3, "loss": null}\n{"step": 4, "loss": null}\n'
    path.write_text(text)
    first, second = metrics_sample.sample(path, places=2).curve
    assert first == 4.0 and math.isnan(second)


def test_of_a_long_file_a_small_part_is_read(path, monkeypatch):
    count = 30_000
    path.write_text("".join(_line(step, loss=float(step), text="x" * 100) for step in range(1, count + 1)) + '{"st')
    read = []
    original = metrics_sample._lines
    monkeypatch.setattr(metrics_sample, "_lines", lambda *arguments: read.append(arguments[2]) or original(*arguments))
    found = metrics_sample.sample(path)
    assert sum(read) < path.stat().st_size / 5 and min(read) > 0
    assert found.last[-1]["step"] == count and found.last[0]["step"] == count - len(found.last) + 1
    assert len(found.curve) == 60 and found.curve == sorted(found.curve)
    expected = np.linspace(0, count, 60)
    np.testing.assert_allclose(found.curve, expected, atol=count * 0.01)
    assert found.damage is None


def test_lines_that_are_longer_than_the_end_that_is_read(path, monkeypatch):
    monkeypatch.setattr(metrics_sample, "_TAIL", 64)
    monkeypatch.setattr(metrics_sample, "_BLOCK", 16)
    path.write_text("".join(_line(step, text="x" * 500) for step in range(1, 20)))
    found = metrics_sample.sample(path, places=3)
    assert found.last[-1]["step"] == 19 and found.damage is None


@pytest.mark.parametrize(
    ("text", "damage"),
    [
        (_line(1) + "{\n" + _line(3), "line 2 is damaged"),
        (_line(1) + "3\n" + _line(3), "line 2 is damaged"),
        (_line(1) + '{"step": 2}\n', "line 2 is damaged"),
        (_line(1) + '{"step": 2, "loss": "a"}\n', "line 2 is damaged"),
        (_line(1) + _line(3), "line 2 must be that of step 2, and is that of step 3"),
        (_line(1) + _line(2) + "\x00\x00\n", "line 3 is damaged"),
        ("[" * 100_000 + "\n", "line 1 is damaged"),
    ],
)
def test_damage_of_a_short_file(path, text, damage):
    path.write_text(text)
    assert damage in metrics_sample.sample(path).damage


def test_damage_of_a_long_file_where_it_is_read(path, monkeypatch):
    monkeypatch.setattr(metrics_sample, "_TAIL", 200)
    monkeypatch.setattr(metrics_sample, "_BLOCK", 100)
    good = "".join(_line(step) for step in range(1, 500))
    path.write_text(good + "nonsense\n")
    assert "it is damaged near byte" in metrics_sample.sample(path, places=5).damage
    path.write_text(good + good)
    assert metrics_sample.sample(path, places=5).damage == "its steps are not in order"
