"""What is kept: found again for the same things, complete or not at all."""

import io
import threading

import numpy as np
import pytest

from meta_train.evaluation import kept
from meta_train.host import cache_folder


def test_names_tell_apart_what_they_are_made_of():
    parts = [("a", 1, (2, 3)), ("a", 1, (2, 4)), ("a", 2, (2, 3)), ("b", 1, (2, 3)), ("a", 12, (3,))]
    assert len({kept.name("title", *part) for part in parts}) == len(parts)
    assert kept.name("title", *parts[0]) == kept.name("title", *parts[0])
    assert kept.name("title").startswith("title-")


def test_digests_are_of_contents():
    data = {"x": np.arange(6.0).reshape(2, 3), "y": np.arange(3)}
    assert kept.digest(data) == kept.digest({**data, "x": np.asfortranarray(data["x"])})
    assert kept.digest(data) != kept.digest({**data, "y": np.arange(3) + 1})


def test_what_is_kept_is_not_computed_again(tmp_path):
    folder, made = tmp_path / "deeper", []

    def compute():
        made.append(1)
        return {"x": np.arange(3.0)}

    for _ in range(2):
        np.testing.assert_array_equal(kept.remember(folder, lambda: "it", compute)["x"], [0, 1, 2])
    assert len(made) == 1
    kept.remember(folder, lambda: "other", compute)
    kept.remember(None, None, compute)  # no name is needed where nothing is kept
    assert len(made) == 3
    assert sorted(path.name for path in folder.iterdir()) == ["it.npz", "other.npz"]


def test_what_fails_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        kept.remember(tmp_path, lambda: "it", lambda: 1 / 0)
    assert not list(tmp_path.iterdir())


def _damage(content):
    """An archive cut short, empty, changed inside, or something else."""
    changed = bytearray(content)
    changed[len(changed) // 2 - 20] ^= 0xFF
    array = io.BytesIO()
    np.save(array, np.arange(3.0))
    pickled = io.BytesIO()
    np.savez(pickled, x=np.array([{}]))
    cut = [content[:length] for length in range(0, len(content), 7)]
    return [*cut, bytes(changed), b"no archive", array.getvalue(), pickled.getvalue()]


def test_damaged_files_are_computed_again_and_replaced(tmp_path):
    compute = lambda: {"x": np.arange(300.0)}
    kept.remember(tmp_path, lambda: "it", compute)
    content = (tmp_path / "it.npz").read_bytes()
    for damaged in _damage(content):
        (tmp_path / "it.npz").write_bytes(damaged)
        for _ in range(2):
            np.testing.assert_array_equal(kept.remember(tmp_path, lambda: "it", compute)["x"], np.arange(300.0))
            compute = lambda: 1 / 0  # the second time it is read
        compute = lambda: {"x": np.arange(300.0)}
        assert [path.name for path in tmp_path.iterdir()] == ["it.npz"]


def test_what_cannot_be_written_is_returned_all_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cache_folder, "_told", threading.Event())
    (tmp_path / "file").write_bytes(b"no folder")
    compute = lambda: {"x": np.arange(3.0)}
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        np.testing.assert_array_equal(kept.remember(folder, lambda: "it", compute)["x"], [0, 1, 2])

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", fail)
    np.testing.assert_array_equal(kept.remember(tmp_path, lambda: "it", compute)["x"], [0, 1, 2])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert len(capsys.readouterr().err.splitlines()) == 1
