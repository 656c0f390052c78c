"""The state of a run as lines and as JSON: every state, narrow terminals, small character sets."""

import json
import math
import pathlib

import pytest

from meta_train.cli import run_text
from meta_train.training.run_status import RunStatus

STATUS = RunStatus(
    folder=pathlib.Path("runs/mine"),
    state="running",
    process="process 7 on here",
    step=300,
    num_steps=600,
    loss=0.5,
    averaged=15,
    curve=(2.0, math.nan, 1.0, 0.5),
    snr=1.25,
    dropped=0,
    task_losses={"digits-mlp": 0.25, "quadratic": None},
    seconds=30.0,
    seconds_left=95.0,
    compiling=None,
    checkpoint_step=290,
    checkpoint_age=4.0,
    age=1.0,
    damage=None,
)


def _text(**changes):
    return "\n".join(run_text.snapshot(STATUS._replace(**changes)))


def test_a_run_that_is_going_on():
    assert _text().splitlines() == [
        "runs/mine: running (process 7 on here)",
        "step        300 of 600 [###########...........] 50 %, about 1:35 left",
        "loss        0.5 (mean of the last 15 steps)",
        "            █×▃▁",
        "            from 2 to 0.5, between 0.5 and 2",
        "signal      1.25 times the noise (snr, squared norms)",
        "checkpoint  of step 290, 4 s ago",
        "tasks       digits-mlp 0.25",
        "            quadratic  not known",
    ]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"state": "stopped"}, "stopped, 1 s ago. Go on with the command that began it and --resume"),
        ({"state": "stopped", "num_steps": None}, "stopped, 1 s ago, before its end or at it"),
        ({"state": "finished", "step": 600, "seconds_left": None}, "600 of 600 [######################] 100 %\n"),
        ({"state": "damaged", "damage": "run.json is not JSON"}, "damage      run.json is not JSON"),
        ({"num_steps": None}, "step        300 (of how many is not written down)"),
        ({"compiling": 42.0}, ", compiling for 0:42"),
        ({"dropped": 3}, "left out    3 particles in these steps, not finite"),
        ({"step": 700}, "700 of 600 [######################] 100 %"),
    ],
)
def test_what_is_said_of_other_states(changes, part):
    assert part in _text(**changes)


def test_what_is_not_known_yet_is_left_out():
    nothing = {"loss": None, "curve": (), "snr": None, "task_losses": {}, "checkpoint_step": None, "step": 0}
    assert len(_text(**nothing).splitlines()) == 2
    assert "loss        not known" in _text(loss=None, curve=(math.nan,))


@pytest.mark.parametrize(("columns", "rows"), [(10, 5), (40, 12), (60, 9), (200, 60)])
def test_it_fits_the_terminal(columns, rows):
    losses = {f"a-task-with-quite-a-long-name-{i}": 1.0 for i in range(50)}
    status = STATUS._replace(task_losses=losses, curve=tuple(map(float, range(60))))
    lines = run_text.snapshot(status, columns=columns, rows=rows)
    assert max(map(len, lines)) < max(columns, 21)
    assert len(lines) <= rows
    assert any(line.strip().endswith("more") for line in lines) == (9 <= rows < 60)


@pytest.mark.parametrize("encoding", ["ascii", None, "no such encoding", "latin-1"])
def test_small_character_sets(encoding):
    text = "\n".join(run_text.snapshot(STATUS, encoding=encoding))
    assert text.isascii() and "\n            #x-_\n" in text


@pytest.mark.parametrize(
    ("values", "width", "expected"),
    [
        ([], 10, ""),
        ([1.0, 1.0], 10, "▁▁"),
        ([math.nan, math.inf], 10, "××"),
        ([0.0, 0.0, 1.0, 1.0], 2, "▁█"),
        ([0.0, math.nan, 1.0], 3, "▁×█"),
        ([1e9, *[7.0 - i for i in range(8)] * 3], 60, "█" + "█▇▆▅▄▃▂▁" * 3),
    ],
)
def test_sparklines(values, width, expected):
    assert run_text.sparkline(values, width) == expected


def test_a_line_and_json():
    line = run_text.one_line(STATUS)
    assert line == "runs/mine: running, step 300 of 600, loss 0.5, snr 1.25, about 1:35 left"
    other = STATUS._replace(num_steps=None, loss=None, snr=None, seconds_left=None, compiling=3.0, damage="bad")
    assert run_text.one_line(other) == "runs/mine: running, step 300, loss not known, no step yet after 0:03, bad"
    held = json.loads(json.dumps(run_text.as_json(STATUS, bytes=5), allow_nan=False))
    assert held["curve"] == [2.0, None, 1.0, 0.5]
    assert (held["folder"], held["bytes"], held["num_steps"]) == (str(STATUS.folder), 5, 600)
    assert set(STATUS._fields) < set(held)


def test_of_a_long_folder_the_end_is_shown_and_the_state_stays_in_sight():
    folder = pathlib.Path("/home") / "/".join(["somewhere"] * 9) / "mine"
    (title, *_) = run_text.snapshot(STATUS._replace(folder=folder), columns=60)
    assert title == "...re/somewhere/somewhere/mine: running (process 7 on here)" and len(title) == 59
