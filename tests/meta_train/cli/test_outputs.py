"""Outputs that cannot be written are refused."""

import os

import pytest

from meta_train.cli import outputs


def test_folders_are_made(tmp_path):
    outputs.check_file(tmp_path / "new" / "deeper" / "figures.json", (".json",))
    assert list((tmp_path / "new" / "deeper").iterdir()) == []
    outputs.check_file(tmp_path / "CURVES.PNG", outputs.PICTURES)


def test_what_cannot_be_written_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file.json").write_text("here", encoding="utf-8")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ValueError, match=r"must be a file that ends with .png or .pdf or .svg, got curves.xyz"):
        outputs.check_file(tmp_path.__class__("curves.xyz"), outputs.PICTURES)
    with pytest.raises(ValueError, match=r"must be a file, got the folder .*folder.json"):
        outputs.check_file(tmp_path / "folder.json", (".json",))
    with pytest.raises(ValueError, match=r"file.json is no folder"):
        outputs.check_file(tmp_path / "file.json" / "figures.json", (".json",))
    with pytest.raises(ValueError, match=r"must be in a folder that can be written to, and .*: Not a directory"):
        outputs.check_folder(tmp_path / "file.json" / "deeper")
    outputs.check_file(tmp_path / "file.json", (".json",))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match=r"there is a file .*file.json that may only be read"):
        outputs.check_file(tmp_path / "file.json", (".json",))
    assert (tmp_path / "file.json").read_text(encoding="utf-8") == "here"
