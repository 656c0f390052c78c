"""Goldens are rewritten by name: the others stay as they are, byte for byte, and those of released weights for ever."""

import json
import pathlib
import runpy
import types

import pytest

import learned_optim

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"
goldens = types.SimpleNamespace(**runpy.run_path(str(GOLDENS / "regenerate.py")))
RELEASED = learned_optim.list_pretrained()[0]


@pytest.fixture
def folder(tmp_path):
    """Goldens that are wrong, one and all, and none of a released theta."""
    wrong = {name: [[0.0] * 10] * 20 for name in goldens.read(GOLDENS / "optimizers.json")}
    goldens._write(tmp_path / "optimizers.json", wrong)
    return tmp_path


def test_a_name_rewrites_its_own_lines_and_no_others(folder):
    before = (folder / "optimizers.json").read_text(encoding="utf-8")
    goldens.regenerate(["learned_momentum"], folder)
    after = (folder / "optimizers.json").read_text(encoding="utf-8")
    first, rest = before.index('"learned_momentum"'), before.index('"learned_schedule"')
    assert after.startswith(before[:first])
    assert after.endswith(before[rest:])
    expected = goldens.read(GOLDENS / "optimizers.json")["learned_momentum"]
    goldens.assert_matches(json.loads(after)["learned_momentum"], expected, "learned_momentum", tolerance=1e-3)
    assert not (folder / "released").exists()


def test_the_file_in_the_repository_is_what_is_written_from_it(tmp_path):
    """Negative zeros included."""
    goldens._write(tmp_path / "optimizers.json", goldens.read(GOLDENS / "optimizers.json"))
    assert (tmp_path / "optimizers.json").read_bytes() == (GOLDENS / "optimizers.json").read_bytes()


def test_a_released_golden_is_written_once(folder):
    goldens.regenerate([RELEASED], folder)
    path = folder / "released" / f"{RELEASED}.json"
    goldens.assert_matches(
        goldens.read(path)[RELEASED], goldens.read(GOLDENS / "released" / path.name)[RELEASED], RELEASED
    )
    written = path.read_bytes(), (folder / "optimizers.json").read_bytes()
    with pytest.raises(ValueError, match=rf"the golden of '{RELEASED}' is there\. It never changes"):
        goldens.regenerate(["learned_momentum", RELEASED], folder)
    assert (path.read_bytes(), (folder / "optimizers.json").read_bytes()) == written  # nor the name before it


def test_unknown_names(folder):
    before = (folder / "optimizers.json").read_bytes()
    message = (
        rf"no golden 'learned_momentun'\. Did you mean 'learned_momentum'\? Choose from .*learned_adam.*{RELEASED}"
    )
    with pytest.raises(ValueError, match=message):
        goldens.regenerate(["learned_sgd", "learned_momentun"], folder)
    assert (folder / "optimizers.json").read_bytes() == before


@pytest.mark.parametrize("arguments", [[], ["--all", "learned_sgd"], ["learned_momentun"]])
def test_the_command_line_refuses_and_writes_nothing(arguments, capsys):
    before = (GOLDENS / "optimizers.json").read_bytes()
    with pytest.raises(SystemExit):
        goldens.main(arguments)
    assert "name the goldens to write" in capsys.readouterr().err or arguments == ["learned_momentun"]
    assert (GOLDENS / "optimizers.json").read_bytes() == before
