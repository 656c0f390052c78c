"""Files of the user's: how they are loaded; their errors, shown by their lines and by nothing of ours."""

import runpy
import sys

import pytest

from meta_train.host import user_code


def _message(path):
    with pytest.raises(ValueError) as caught, user_code.told(path):
        runpy.run_path(str(path))
    return str(caught.value)


def test_an_exception_shows_the_lines_of_the_file_and_no_other(tmp_path):
    """Those of runpy, which runs the file, and of json, which it calls, are left out."""
    path = tmp_path / "mine.py"
    path.write_text("import json\n\ndef inner():\n    json.loads('{')\n\ninner()\n", encoding="utf-8")
    found = _message(path).splitlines()
    assert [line for line in found if set(line) - set(" ^~")] == [
        f"there is an error in {path}:",
        f'  File "{path}", line 6, in <module>',
        "    inner()",
        f'  File "{path}", line 4, in inner',
        "    json.loads('{')",
        "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
    ]


def test_lines_of_a_file_beside_it_are_shown_and_those_of_jax_are_not(tmp_path, monkeypatch):
    """The error is raised while JAX traces; notes that JAX adds about its own lines are left out."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    beside, path = tmp_path / "a_net_beside.py", tmp_path / "mine.py"
    beside.write_text("def net(x):\n    return {}[0]\n", encoding="utf-8")
    path.write_text(
        "import jax\nimport a_net_beside\n\nloss = jax.jit(lambda x: a_net_beside.net(x))\n", encoding="utf-8"
    )
    module = user_code.load(path, "test")
    with pytest.raises(ValueError) as caught, user_code.told(path):
        module.loss(1.0)
    found = str(caught.value).splitlines()
    assert [line.strip() for line in found if line.startswith("  File")] == [
        f'File "{path}", line 4, in <lambda>',
        f'File "{beside}", line 2, in net',
    ]
    assert found[-1] == "KeyError: 0"


def test_a_loaded_file_is_known_by_its_name(tmp_path, monkeypatch):
    """Dataclasses look for their module, where annotations are text."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "mine.py"
    lines = ["from __future__ import annotations", "import dataclasses", "", "@dataclasses.dataclass", "class Net:"]
    path.write_text("\n".join([*lines, "    size: int = 3", ""]), encoding="utf-8")
    module = user_code.load(path, "test")
    assert module.Net().size == 3 and sys.modules["test_mine"] is module
    with pytest.raises(ImportError, match=r"its name must end with .py"):
        user_code.load(tmp_path / "mine.txt", "test")


def test_a_syntax_error_shows_its_place(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("answer = 42\ndef recipe(:\n", encoding="utf-8")
    found = _message(path)
    assert f'File "{path}", line 2' in found
    assert "    def recipe(:\n" in found
    assert found.endswith("SyntaxError: invalid syntax")
    assert "Traceback" not in found and "user_code" not in found


def test_errors_that_do_not_come_from_the_file_stay_as_they_are(tmp_path):
    error = KeyError("ours")
    with pytest.raises(KeyError) as caught, user_code.told(tmp_path / "mine.py"):
        raise error
    assert caught.value is error


def test_an_interrupt_is_no_error_of_the_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("raise KeyboardInterrupt\n", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt), user_code.told(path):
        runpy.run_path(str(path))
