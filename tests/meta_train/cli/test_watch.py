"""`meta-train watch`: snapshots, lines, a terminal, Ctrl-C, and a run that is written meanwhile."""

import json
import sys

import pytest

from meta_train.cli import watch as command
from meta_train.training import run_lock
from meta_train.training import run_session


def _record(step):
    return json.dumps({"step": step, "loss": 1.0 / step, "seconds": float(step)}) + "\n"


@pytest.fixture
def folder(tmp_path):
    """A run of four steps, stopped after two."""
    path = tmp_path / "run"
    (path / "checkpoints" / "2").mkdir(parents=True)
    (path / "run.json").write_text("{}")
    (path / "metrics.jsonl").write_text(_record(1) + _record(2))
    run_session.write(path, num_steps=4, first_step=0)
    return path


@pytest.fixture
def goes_on(folder, monkeypatch):
    """The run goes on, a step at each look; the fourth, at which it ends, is written by halves first."""
    lock = run_lock.held(folder)
    lock.__enter__()
    texts = [_record(3), _record(4)[:9], _record(4)[9:]]

    def sleep(seconds):
        assert seconds == 0.5
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(texts.pop(0))
        if not texts:
            (folder / "checkpoints" / "4").mkdir()
            lock.__exit__(None, None, None)

    monkeypatch.setattr(command.time, "sleep", sleep)
    return folder


def test_a_run_at_rest_is_shown_once(run, folder, capsys):
    assert run("watch", folder) == 0
    assert capsys.readouterr().out == f"{folder}: stopped, step 2 of 4, loss 0.5\n"
    assert run("watch", folder, "--once") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "/run: stopped, " in lines[0] and lines[1].startswith("step        2 of 4 [")
    assert run("watch", folder, "--json") == 0
    assert json.loads(capsys.readouterr().out)["state"] == "stopped"


def test_a_pipe_gets_a_line_for_each_change(run, goes_on, capsys):
    before = sorted(path.name for path in goes_on.iterdir())
    assert run("watch", goes_on, "--every", 0.5) == 0
    output = capsys.readouterr().out
    assert "\x1b" not in output
    assert [line.partition(", loss")[0] for line in output.splitlines()] == [
        f"{goes_on}: running, step 2 of 4",
        f"{goes_on}: running, step 3 of 4",
        f"{goes_on}: finished, step 4 of 4",
    ]
    assert sorted(path.name for path in goes_on.iterdir()) == before


def test_machines_get_a_line_of_json_each_time(run, goes_on, capsys):
    assert run("watch", goes_on, "--json", "--every", 0.5) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["state"], each["step"]) for each in found] == [
        ("running", 2),
        ("running", 3),
        ("running", 3),
        ("finished", 4),
    ]


def test_a_terminal_is_drawn_over(run, goes_on, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert run("watch", goes_on, "--every", 0.5) == 0
    first, *others = capsys.readouterr().out.split("\x1b[J")
    height = first.removesuffix(first[first.rfind("\x1b") :]).count("\n")
    assert len(others) == 3 and f"\x1b[{height}A" in first
    assert "finished" in others[-1] and "finished" not in first


def test_ctrl_c_ends_the_watching_alone(run, folder, capsys, monkeypatch):
    def stop(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", stop)
    with run_lock.held(folder):
        assert run("watch", folder) == 130
    captured = capsys.readouterr()
    assert "running, step 2 of 4" in captured.out
    assert captured.err == "\nNo longer watching. The run is as it was.\n"


def test_what_cannot_be_watched(run, folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ([tmp_path / "empty"], "empty holds no run: give the folder that 'train --out' wrote to"),
        ([tmp_path / "nowhere"], "nowhere holds no run"),
        ([""], "expected a path"),
        ([folder, "--every", "0"], "'--every'"),
    ):
        assert run("watch", *arguments) == 2
        assert message in capsys.readouterr().err
    (folder / "run.json").write_text("{")
    assert run("watch", folder) == 0
    assert capsys.readouterr().out.endswith("damaged, step 2 of 4, loss 0.5, run.json is not JSON\n")
