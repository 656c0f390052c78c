"""What the tests of all commands share: the command line in this process, which keeps no compiled programs."""

import sys

import pytest

from meta_train import __main__ as command_line
from meta_train.training import engine


@pytest.fixture
def run(monkeypatch):
    """A function of arguments that returns the exit status."""
    monkeypatch.setattr(engine, "cache_compilations", lambda: None)
    monkeypatch.setattr(command_line, "_end_at_once", sys.exit)  # this process goes on

    def run(*arguments):
        with pytest.raises(SystemExit) as error:
            command_line.main(list(map(str, arguments)))
        return error.value.code

    return run
