"""Options that several commands share."""

import os
import pathlib

import pytest
import typer

from meta_train import data
from meta_train.cli import options


def test_a_path_is_not_empty():
    assert options.path(".") == pathlib.Path(".")
    assert options.path(pathlib.Path("runs")) == pathlib.Path("runs")  # a default
    for empty in ("", "  "):
        with pytest.raises(typer.BadParameter, match="expected a path, got ''"):
            options.path(empty)


def test_a_data_dir_is_for_this_process_and_those_that_it_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(data.DATA_DIR_VARIABLE, "elsewhere")
    options.use_data_dir(None)
    assert os.environ[data.DATA_DIR_VARIABLE] == "elsewhere"
    (tmp_path / "sets").mkdir()
    options.use_data_dir(pathlib.Path("sets"))
    assert os.environ[data.DATA_DIR_VARIABLE] == str(tmp_path / "sets")
    with pytest.raises(ValueError, match="--data-dir must be a folder, got nowhere"):
        options.use_data_dir(pathlib.Path("nowhere"))
