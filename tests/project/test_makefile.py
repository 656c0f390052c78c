"""The Makefile where it must say no."""

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("version", ["Python 3.10.13", None], ids=["too old", "missing"])
@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_stops_with_a_clear_sentence_without_a_fitting_python(tmp_path, version, target):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python"
    if version is not None:  # answers --version, and fails the check of its version as an old Python does
        python.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo {version}; else exit 1; fi\n')
        python.chmod(0o755)
    result = subprocess.run(
        ["make", target, f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert "needs Python 3.11 or newer" in result.stderr
    assert f"make {target} PYTHON=" in result.stderr
    if version is not None:
        assert version in result.stderr
    assert not (tmp_path / ".venv").exists()
