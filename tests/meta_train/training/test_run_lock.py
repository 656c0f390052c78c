"""One run at a time in a folder."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from meta_train.training import run_lock


def test_another_process_is_refused_until_the_first_one_ends_or_is_killed(tmp_path):
    code = "import pathlib, sys, time\nfrom meta_train.training import run_lock\n"
    code += "with run_lock.held(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(600)\n"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        refused = rf"another run is at work in .* \(process {other.pid} on .*\): wait until"
        with pytest.raises(ValueError, match=refused), run_lock.held(tmp_path):
            pytest.fail("two have it")
        other.send_signal(signal.SIGKILL)
        other.wait()
    with run_lock.held(tmp_path):
        assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on ")


def test_the_same_process_is_refused_too_and_errors_free_it(tmp_path):
    with pytest.raises(ValueError, match="another run is at work"), run_lock.held(tmp_path), run_lock.held(tmp_path):
        pytest.fail("held twice")
    with pytest.raises(KeyboardInterrupt), run_lock.held(tmp_path):
        raise KeyboardInterrupt
    with run_lock.held(tmp_path):
        pass


@pytest.mark.parametrize("missing", ["the module", "on this file system"])
def test_where_there_are_no_locks_nothing_is_locked(tmp_path, monkeypatch, missing):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    if missing == "the module":
        monkeypatch.setattr(run_lock, "fcntl", None)
    else:
        monkeypatch.setattr(run_lock.fcntl, "flock", refuse)
    with run_lock.held(tmp_path), run_lock.held(tmp_path):
        pass


def test_whether_a_process_is_at_work_can_be_asked_and_disturbs_nobody(tmp_path, monkeypatch):
    assert run_lock.at_work(tmp_path) is False and run_lock.holder(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    with run_lock.held(tmp_path):
        assert run_lock.at_work(tmp_path) is True
        assert run_lock.holder(tmp_path).startswith(f"process {os.getpid()} on ")
    assert run_lock.at_work(tmp_path) is False

    with (tmp_path / "lock").open() as asking:  # as another process does for a moment
        run_lock.fcntl.flock(asking, run_lock.fcntl.LOCK_SH)
        monkeypatch.setattr(run_lock.time, "sleep", lambda seconds: asking.close())
        with run_lock.held(tmp_path):
            assert run_lock.at_work(tmp_path) is True


def test_without_locks_it_is_not_known(tmp_path, monkeypatch):
    with run_lock.held(tmp_path):
        pass

    def refuse(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(run_lock.fcntl, "flock", refuse)
    assert run_lock.at_work(tmp_path) is None
    monkeypatch.setattr(run_lock, "fcntl", None)
    assert run_lock.at_work(tmp_path) is None
