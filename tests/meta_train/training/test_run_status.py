"""The state of a run by its files: new, running, stopped, finished, damaged, and those of earlier versions."""

import json
import math
import os
import time

import pytest

from meta_train.training import run_lock
from meta_train.training import run_session
from meta_train.training import run_status


def _record(step, **more):
    return {
        "step": step,
        "loss": float(-step),
        "loss/a": 1.0,
        "loss/b": None,
        "dropped": 1,
        "snr": 0.5,
        "seconds": 0.1 * step,
    } | more


def _write(folder, records=(), *, checkpoint=None, num_steps=None, begun=True):
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / "lock").touch()
    if begun:
        (folder / "run.json").write_text('{"seed": 0}')
    if records:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if checkpoint is not None:
        (folder / "checkpoints" / str(checkpoint)).mkdir()
    if num_steps is not None:
        run_session.write(folder, num_steps=num_steps, first_step=0)
    return folder


@pytest.fixture
def records():
    return [_record(step) for step in range(1, 41)]


def test_a_run_that_is_going_on(tmp_path, records):
    _write(tmp_path, records, checkpoint=30, num_steps=100)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 41, "lo')
    with run_lock.held(tmp_path):
        found = run_status.read(tmp_path)
    assert (found.state, found.step, found.num_steps, found.checkpoint_step) == ("running", 40, 100, 30)
    assert found.process.startswith(f"process {os.getpid()} on ")
    assert (found.loss, found.averaged, found.snr, found.dropped) == (-39.5, 2, 0.5, 2)
    assert found.task_losses == {"a": 1.0, "b": None}
    assert found.seconds == pytest.approx(4.0) and found.seconds_left == pytest.approx(6.0, abs=1.0)
    assert found.compiling is found.damage is None
    assert 0.0 <= found.age < 60.0 and 0.0 <= found.checkpoint_age < 60.0
    assert found.curve == tuple(float(-step) for step in range(1, 41))


def test_a_run_that_compiles(tmp_path, records):
    with run_lock.held(_write(tmp_path / "new", begun=False)):
        found = run_status.read(tmp_path / "new")
    assert (found.state, found.step, found.num_steps, found.compiling) == ("running", 0, None, None)
    with run_lock.held(_write(tmp_path / "begun", num_steps=5)):
        found = run_status.read(tmp_path / "begun")
    assert (found.state, found.step, found.num_steps, found.loss) == ("running", 0, 5, None)
    assert 0.0 <= found.compiling < 60.0 and found.seconds_left is None
    _write(tmp_path / "resumed", records, checkpoint=40)
    run_session.write(tmp_path / "resumed", num_steps=50, first_step=40)
    with run_lock.held(tmp_path / "resumed"):
        found = run_status.read(tmp_path / "resumed")
    assert found.compiling is not None and found.seconds_left is None


@pytest.mark.parametrize(
    ("checkpoint", "num_steps", "state"), [(30, 40, "stopped"), (40, 41, "stopped"), (40, 40, "finished")]
)
def test_a_run_at_rest(tmp_path, records, checkpoint, num_steps, state):
    found = run_status.read(_write(tmp_path, records, checkpoint=checkpoint, num_steps=num_steps))
    assert (found.state, found.process, found.seconds_left, found.damage) == (state, None, None, None)


def test_a_run_of_an_earlier_version_is_finished_if_its_theta_is_newer(tmp_path, records):
    found = run_status.read(_write(tmp_path, records, checkpoint=40))
    assert (found.state, found.num_steps) == ("stopped", None)
    (tmp_path / "theta.safetensors").touch()
    assert run_status.read(tmp_path).state == "finished"
    os.utime(tmp_path / "theta.safetensors", (1, 1))
    assert run_status.read(tmp_path).state == "stopped"


def _without(name):
    return lambda folder: (folder / name).unlink()


def _with(name, text):
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("spoil", "damage"),
    [
        (_without("run.json"), "run.json is missing"),
        (_with("run.json", '{"seed"'), "run.json is not JSON"),
        (_with("metrics.jsonl", "{\n"), "metrics.jsonl: line 1 is damaged"),
        (_without("metrics.jsonl"), "metrics.jsonl ends after step 0, before the checkpoint of step 40"),
        (_with("metrics.jsonl", '{"step": 1, "loss": 1.0}\n'), "ends after step 1, before the checkpoint of step 40"),
    ],
)
def test_a_damaged_run(tmp_path, records, spoil, damage):
    spoil(_write(tmp_path, records, checkpoint=40, num_steps=40))
    found = run_status.read(tmp_path)
    assert found.state == "damaged" and damage in found.damage


def test_where_there_are_no_locks_the_age_of_the_files_decides(tmp_path, records, monkeypatch):
    monkeypatch.setattr(run_lock, "fcntl", None)
    _write(tmp_path, records, num_steps=50)
    assert run_status.read(tmp_path).state == "running"
    for path in tmp_path.iterdir():
        os.utime(path, (time.time() - 1000, time.time() - 1000))
    assert run_status.read(tmp_path).state == "stopped"


@pytest.mark.parametrize(
    ("seconds", "left"),
    [
        ([], None),
        ([None, None], None),
        ([10.0, 10.0], None),  # one dispatch of two steps, with the compilation
        ([10.0, 10.0, 11.0, 11.0], 6 * 0.5),
        ([500.0, 500.0, 10.0, 12.0], 6 * 2.0),  # an earlier session before
        ([5.0, 5.0, 0.0], None),
        ([1.0, math.nan, 2.0, 3.0], 6 * 1.0),
    ],
)
def test_the_time_that_is_left(seconds, left):
    records = [{"step": step, "seconds": each} for step, each in enumerate(seconds, 1)]
    assert run_status._seconds_left(records, 10, 0.0) == left
    assert run_status._seconds_left(records, None, 0.0) is None
    if left is not None:
        assert run_status._seconds_left(records, 10, 1.0) == left - 1.0
        assert run_status._seconds_left(records, 10, 1e9) == 0.0


def test_half_a_line_without_the_rest_of_a_run(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'\xff\xfe{"st')
    found = run_status.read(tmp_path)
    assert (found.state, found.step) == ("damaged", 0) and "run.json is missing" in found.damage


def test_what_is_no_run(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match="holds no run: give the folder that 'train --out' wrote to"):
            run_status.read(folder)


def test_runs_are_found_at_any_depth_but_not_in_runs_or_hidden_folders(tmp_path, records):
    for name in ("b", "a/deep/er", "b/checkpoints/3/inner", ".hidden/c"):
        _write(tmp_path / name, records)
    (tmp_path / "no run").mkdir()
    assert list(run_status.find(tmp_path)) == [tmp_path / "a/deep/er", tmp_path / "b"]
    assert list(run_status.find(tmp_path / "b")) == [tmp_path / "b"]
    assert run_status.size(tmp_path / "no run") == 0
    assert run_status.size(tmp_path / "a") == sum(
        path.stat().st_size for path in (tmp_path / "a/deep/er").iterdir() if path.is_file()
    )
