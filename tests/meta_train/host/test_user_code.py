"""Errors in a file of the user's: shown by its line, and by nothing of ours."""

import runpy

import pytest

from meta_train.host import user_code


def _message(path):
    with pytest.raises(ValueError) as caught, user_code.told(path):
        runpy.run_path(str(path))
    return str(caught.value)


def test_an_exception_shows_the_last_line_of_the_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import json\n\ndef inner():\n    json.loads('{')\n\ninner()\n", encoding="utf-8")
    found = _message(path).splitlines()
    assert found[:2] == [f"there is an error in {path}, line 4:", "    json.loads('{')"]
    assert found[2].startswith("json.decoder.JSONDecodeError: Expecting property name")
    assert len(found) == 3


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
