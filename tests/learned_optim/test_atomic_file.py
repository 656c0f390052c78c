"""Files are replaced in one step, also by several writers at once."""

import threading

import pytest

from learned_optim import atomic_file


def test_writers_at_once_leave_one_complete_file(tmp_path):
    path, errors, barrier = tmp_path / "a", [], threading.Barrier(8)

    def write(number):
        barrier.wait()
        try:
            for _ in range(5):
                atomic_file.write(path, bytes([number]) * 50_000)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    content = path.read_bytes()
    assert len(content) == 50_000 and len(set(content)) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(NotADirectoryError, match=r"Not a directory: '.*a'"):
        atomic_file.write(tmp_path / "a" / "b", b"")


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a"
    atomic_file.write(path, b"before")

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic_file.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        atomic_file.write(path, b"after")
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
