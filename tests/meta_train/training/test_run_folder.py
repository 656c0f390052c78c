"""The folder of a run: damaged and missing files, one process at a time, and what it refuses."""

import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.training import run_folder
from meta_train.training import run_lock

FINGERPRINT = {"seed": 0, "theta": "abc"}


def _state(step):
    return {"x": jnp.full((3,), step, jnp.float32), "key": jax.random.key(step), "empty": jnp.zeros((0, step))}


def _record(step):
    return {"step": step, "loss": float(step), "grad_norm": 1.0, "dropped": 0, "inner_steps": 9, "seconds": 0.1}


def _open(path, resume=True, known=FINGERPRINT):
    return run_folder.opened(path, known, resume=resume)


def _write_run(path):
    """A run with checkpoints of steps 2 and 5, and a metric more."""
    with _open(path) as folder:
        folder.identify(FINGERPRINT)
        assert folder.restore(_state(0))[1] == []
        for step in range(1, 7):
            folder.log([_record(step)])
            if step in (2, 5):
                folder.save(step, _state(step))


def _restore(path):
    """The step that a run goes on from, by its state and by its metrics."""
    with _open(path) as folder:
        folder.identify(FINGERPRINT)
        state, metrics = folder.restore(_state(0))
    step = int(state["x"][0])
    assert state["empty"].shape == (0, 0)  # arrays without elements are not stored: those at hand stay
    np.testing.assert_array_equal(jax.random.key_data(state["key"]), jax.random.key_data(jax.random.key(step)))
    assert [record["step"] for record in metrics] == list(range(1, step + 1))
    assert [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()] == metrics
    return step


def _empty_all(folder):
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")


def _halve_all(folder):
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _remove_all(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def test_a_run_goes_on_from_its_newest_checkpoint(tmp_path):
    _write_run(tmp_path)
    assert _restore(tmp_path) == 5
    assert not (tmp_path / "set-aside").exists()
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("damage", [_empty_all, _halve_all, _remove_all])
def test_an_unreadable_checkpoint_is_set_aside_and_the_one_before_taken(tmp_path, damage):
    for i in range(2):  # the second time there is one of the same step aside already
        _write_run(tmp_path / "run") if i == 0 else _go_on_to_five(tmp_path / "run")
        damage(tmp_path / "run" / "checkpoints" / "5")
        with pytest.warns(UserWarning, match=r"goes on from checkpoint 2, for what .*\. checkpoint 5: "):
            assert _restore(tmp_path / "run") == 2
        assert len(list((tmp_path / "run" / "set-aside").iterdir())) == i + 1
    _go_on_to_five(tmp_path / "run")
    assert _restore(tmp_path / "run") == 5


def _go_on_to_five(path):
    with _open(path) as folder:
        folder.identify(FINGERPRINT)
        folder.restore(_state(0))
        folder.log([_record(step) for step in (3, 4, 5)])
        folder.save(5, _state(5))


def test_a_run_without_a_readable_checkpoint_is_refused_and_nothing_changed(tmp_path):
    _write_run(tmp_path)
    for step in ("2", "5"):
        _empty_all(tmp_path / "checkpoints" / step)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"no checkpoint that can be used\. checkpoint 5: .*; checkpoint 2: .*Put"):
        _restore(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "5"]


@pytest.mark.parametrize(
    ("line", "content", "step"),
    [(6, b"", 5), (6, b'{"step": 6, "lo', 5), (5, b'{"step": 5, "lo', 2), (4, b"\0\n{}\n", 2), (3, b"", 2)],
)
def test_metrics_decide_how_far_a_run_can_go_back_on(tmp_path, line, content, step):
    """All from a line on are replaced; the checkpoint of step 5 needs five of them."""
    _write_run(tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(lines[: line - 1]) + content)
    if step == 5:
        assert _restore(tmp_path) == 5
    else:
        with pytest.warns(UserWarning, match=r"metrics\.jsonl(, line 4, is damaged| ends before step \d)"):
            assert _restore(tmp_path) == 2


def test_metrics_that_are_missing_or_damaged_before_all_checkpoints(tmp_path):
    _write_run(tmp_path)
    path = tmp_path / "metrics.jsonl"
    text = path.read_text()
    path.write_text(text.replace('"step": 2,', '"step": ,'))
    with pytest.raises(ValueError, match=rf"{path}, line 2, is damaged: it is not JSON .* Put the files back"):
        _restore(tmp_path)
    path.write_text('{"step": 1, "loss"')
    with pytest.raises(ValueError, match=rf"{path} ends before step 1"):
        _restore(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match=rf"{path} is missing"):
        _restore(tmp_path)
    path.write_text(text)
    assert _restore(tmp_path) == 5  # none of it did harm


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"run\.json, line 1, is damaged: it is not JSON \(Expecting value\)\. .* put it back from a copy"),
        ('{"seed": 0,\n"theta"', r"run\.json, line 2, is damaged"),
        ("\0\xff", r"run\.json, line 1, is damaged"),
        ("[]", "holds another run, whose seed, theta differ"),
        ('{"seed": 1, "theta": "abc"}', "holds another run, whose seed differ"),
    ],
)
def test_run_json_is_damaged_or_of_another_run(tmp_path, text, message):
    _write_run(tmp_path)
    (tmp_path / "run.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=message), _open(tmp_path):
        pytest.fail("opened")


def test_what_is_known_later_is_compared_later(tmp_path):
    _write_run(tmp_path)
    with _open(tmp_path, known={"seed": 0}) as folder, pytest.raises(ValueError, match="whose theta differ"):
        folder.identify({"seed": 0, "theta": "abd"})


@pytest.mark.parametrize("left", ["checkpoints", "metrics.jsonl"])
@pytest.mark.parametrize("resume", [False, True])
def test_parts_of_a_run_that_is_not_named_are_left_alone(tmp_path, left, resume):
    _write_run(tmp_path / "run")
    (tmp_path / "new").mkdir()
    os.rename(tmp_path / "run" / left, tmp_path / "new" / left)
    with pytest.raises(ValueError, match=r"holds metrics or checkpoints, but not the run\.json"):
        run_folder.check(tmp_path / "new", resume=resume)
    with pytest.raises(ValueError, match=r"but not the run\.json"), _open(tmp_path / "new", resume):
        pytest.fail("opened")


def test_a_run_that_was_killed_at_its_very_beginning_begins_again(tmp_path):
    with _open(tmp_path, resume=False):
        pass  # no run.json yet
    run_folder.check(tmp_path, resume=False)
    with _open(tmp_path, resume=False) as folder:
        folder.identify(FINGERPRINT)
    with pytest.raises(ValueError, match=r"already holds a run: pass resume=True"):
        run_folder.check(tmp_path, resume=False)
    run_folder.check(tmp_path, resume=True)
    run_folder.check(tmp_path / "nowhere", resume=False)


def test_a_path_that_is_no_folder_or_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("of the user")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").write_text("of the user")
    for path in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / "run"):
        with pytest.raises(ValueError, match=r"must be a folder that can be written to, got"), _open(path):
            pytest.fail("opened")
    assert (tmp_path / "file").read_text() == "of the user"


def test_one_process_at_a_time(tmp_path):
    with run_lock.held(tmp_path), pytest.raises(ValueError, match="another run is at work in"), _open(tmp_path):
        pytest.fail("opened")
    with pytest.raises(KeyboardInterrupt), _open(tmp_path):
        raise KeyboardInterrupt
    with _open(tmp_path), pytest.raises(ValueError, match="another run is at work in"), _open(tmp_path):
        pytest.fail("opened twice")


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError("the disk is full")

    path = tmp_path / "run.json"
    path.write_text("before")
    monkeypatch.setattr(run_folder.os, "fsync", fail)
    with pytest.raises(OSError, match="the disk is full"):
        run_folder._write(path, "after")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("run.json", "before")]
