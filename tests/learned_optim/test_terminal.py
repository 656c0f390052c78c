"""Command lines on terminals that lack characters, and before readers that leave."""

import io
import os
import subprocess
import sys

import pytest

from learned_optim import __main__ as command_line
from learned_optim import released
from learned_optim import terminal


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp932"])
def test_a_card_is_printed_whatever_the_characters_of_the_terminal(encoding, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    assert command_line.main(["card"]) == 0
    printed = sys.stdout.buffer.getvalue().decode(encoding)
    assert printed == released.card().encode(encoding, "replace").decode(encoding) + "\n"


def test_messages_on_standard_error_too(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert terminal.run(lambda: print("±", file=sys.stderr)) == 0
    assert sys.stderr.buffer.getvalue() == b"?\n"


@pytest.mark.parametrize("size", [1, 100_000], ids=["at the last flush", "while it prints"])
def test_a_reader_that_has_left_ends_the_command_quietly(size, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert terminal.run(lambda: print("x" * size)) == terminal.NOBODY_READS
        print("goes nowhere", flush=True)


def test_other_errors_and_exits_pass():
    with pytest.raises(SystemExit, match="3"):
        terminal.run(lambda: sys.exit(3))
    with pytest.raises(KeyError, match="bug"):
        terminal.run(lambda: {}["bug"])


def test_both_command_lines_end_quietly_when_nobody_reads():
    reading, writing = os.pipe()
    os.close(reading)
    commands = (["learned_optim", "list"], ["meta_train", "--help"])
    processes = [
        subprocess.Popen([sys.executable, "-m", *command], stdout=writing, stderr=subprocess.PIPE)
        for command in commands
    ]
    os.close(writing)
    for process in processes:
        assert process.communicate()[1] == b""
        assert process.returncode == terminal.NOBODY_READS
