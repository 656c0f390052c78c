"""`meta-train runs`: a table, JSON, folders without a run, and runs that are damaged or go away."""

import json

import pytest

from meta_train.cli import runs as command
from meta_train.training import run_lock
from meta_train.training import run_session
from meta_train.training import run_status


@pytest.fixture
def folder(tmp_path):
    """Four runs: finished, stopped, damaged, and one that somebody is at work in."""
    for name, steps in (("done", 3), ("stopped", 2), ("damaged", 2), ("deeper/going-on", 1)):
        path = tmp_path / name
        (path / "checkpoints" / str(steps)).mkdir(parents=True)
        (path / "run.json").write_text("{}")
        lines = [json.dumps({"step": step, "loss": 1.0 / step, "seconds": 1.0}) for step in range(1, steps + 1)]
        (path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        run_session.write(path, num_steps=3, first_step=0)
    (tmp_path / "damaged" / "run.json").unlink()
    (tmp_path / "done" / "theta.safetensors").write_bytes(b"x" * 2_500_000)
    return tmp_path


def test_a_table_of_all_runs(run, folder, capsys):
    with run_lock.held(folder / "deeper" / "going-on"):
        assert run("runs", folder) == 0
    head, *rows, damage = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "state", "steps", "loss", "changed", "size"]
    cells = [row.split() for row in rows]
    assert [[row[0], *row[1:6]] for row in cells] == [
        [str(folder / "damaged"), "damaged", "2", "of", "3", "0.5"],
        [str(folder / "deeper" / "going-on"), "running", "1", "of", "3", "1"],
        [str(folder / "done"), "finished", "3", "of", "3", "0.3333"],
        [str(folder / "stopped"), "stopped", "2", "of", "3", "0.5"],
    ]
    assert cells[2][-2:] == ["2.5", "MB"] and cells[3][-1] == "kB"
    assert damage == f"{folder / 'damaged'}: run.json is missing, which says of which run the files are"


def test_machines_get_a_line_of_json_for_each_run(run, folder, capsys):
    assert run("runs", folder, "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["state"] for each in found] == ["damaged", "stopped", "finished", "stopped"]
    assert found[2]["bytes"] > 2_500_000 and found[2]["folder"] == str(folder / "done")


def test_where_there_is_no_run(run, tmp_path, capsys):
    assert run("runs", tmp_path) == 0
    assert "There is no run in" in capsys.readouterr().out
    assert run("runs", tmp_path, "--json") == 0
    assert capsys.readouterr().out == ""
    assert run("runs", tmp_path / "nowhere") == 2
    assert "nowhere is no folder" in capsys.readouterr().err


def test_a_run_that_cannot_be_read_hides_no_other(run, folder, capsys, monkeypatch):
    def read(path):
        if path.name == "done":
            raise PermissionError(13, "Permission denied")
        return original(path)

    original = run_status.read
    monkeypatch.setattr(run_status, "read", read)
    assert run("runs", folder) == 0
    captured = capsys.readouterr()
    assert captured.err == f"meta-train: {folder / 'done'} is left out: [Errno 13] Permission denied\n"
    assert "stopped" in captured.out and "finished" not in captured.out


@pytest.mark.parametrize(("count", "text"), [(0, "0.0 kB"), (1_500, "1.5 kB"), (2e6, "2.0 MB"), (3.25e9, "3.2 GB")])
def test_sizes(count, text):
    assert command._size(count) == text
