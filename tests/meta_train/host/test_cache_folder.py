"""Caches are never fatal: an unknown home folder, one that cannot be written to, a full disk."""

import pathlib
import subprocess
import sys

import jax
import pytest

from meta_train.host import cache_folder
from meta_train.training import engine


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch):
    """As at the start of a process; what a test says counts for no other."""
    monkeypatch.setattr(cache_folder, "_told", type(cache_folder._told)())


@pytest.fixture
def no_home(monkeypatch):
    """HOME is not set, and the system does not know the user."""

    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pathlib.Path, "home", home)


@pytest.fixture
def compilation_cache():
    """Sets JAX's folder for compiled programs, and sets it back after the test."""
    before = jax.config.jax_compilation_cache_dir
    yield lambda folder: jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_compilation_cache_dir", before)


def test_the_folder_is_where_the_system_keeps_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder.cache_folder() == tmp_path / "learned_optim"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder.cache_folder() == tmp_path / ".cache" / "learned_optim"


def test_a_home_folder_that_is_unknown_costs_one_line(no_home, capsys):
    path = cache_folder.cache_folder() / "evaluations" / "one.npz"
    cache_folder.put(path, lambda file: file.write(b"contents"))
    assert not cache_folder.is_writable(cache_folder.cache_folder())
    assert not path.parent.is_dir()
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("learned_optim: cannot keep files for later runs (the home folder of this user is unknown)")
    assert "Set XDG_CACHE_HOME" in line


def test_a_file_is_there_whole(tmp_path, capsys):
    path = tmp_path / "deeper" / "file"
    for contents in (b"first", b"second"):
        cache_folder.put(path, lambda file, contents=contents: file.write(contents))
        assert path.read_bytes() == contents
    assert list(path.parent.iterdir()) == [path]
    assert cache_folder.is_writable(tmp_path / "other" / "folder")
    assert list((tmp_path / "other" / "folder").iterdir()) == []
    assert capsys.readouterr().err == ""


def test_a_failed_write_leaves_nothing_and_keeps_what_was_there(tmp_path, capsys):
    def fill_disk(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    cache_folder.put(tmp_path / "file", lambda file: file.write(b"before"))
    for _ in range(2):
        cache_folder.put(tmp_path / "file", fill_disk)
        cache_folder.put(tmp_path / "other", fill_disk)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"before"
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line


def test_what_interrupts_a_write_leaves_nothing_either(tmp_path):
    def interrupt(file):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache_folder.put(tmp_path / "file", interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken_is_no_trouble(tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"no folder")
    (tmp_path / "folder" / "deeper").mkdir(parents=True)
    for path in (tmp_path / "file" / "inside", tmp_path / "folder"):
        cache_folder.put(path, lambda file: file.write(b"contents"))
    assert not cache_folder.is_writable(tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_compiled_programs_are_kept_where_that_works(compilation_cache, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for given, expected in (
        (None, str(tmp_path / "learned_optim")),
        (str(tmp_path / "named"), str(tmp_path / "named")),
        ("gs://bucket/folder", "gs://bucket/folder"),
    ):
        compilation_cache(given)
        engine.cache_compilations()
        assert jax.config.jax_compilation_cache_dir == expected
    assert capsys.readouterr().err == ""


def test_compiled_programs_are_not_kept_where_that_fails(compilation_cache, no_home, tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"no folder")
    for given in (None, str(tmp_path / "file")):
        compilation_cache(given)
        engine.cache_compilations()
        assert jax.config.jax_compilation_cache_dir is None
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_command_line_starts_without_a_home_folder(tmp_path):
    code = (
        "import os, pathlib, sys\n"
        "def home(): raise RuntimeError('Could not determine home directory.')\n"
        "pathlib.Path.home = home\n"
        "for name in ('XDG_CACHE_HOME', 'JAX_COMPILATION_CACHE_DIR'): os.environ.pop(name, None)\n"
        "import meta_train.__main__\n"
        "meta_train.__main__.main(['--help'])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8")
    assert result.returncode == 0, result.stderr
    assert "Usage" in result.stdout
    assert len(result.stderr.splitlines()) == 1
