"""Ctrl-C and SIGTERM end a command with a line that says how to go on."""

import os
import pathlib
import signal

import pytest
import typer

from meta_train.cli import stopping

OUT = pathlib.Path("runs") / "mine"


def _ctrl_c():
    raise KeyboardInterrupt


@pytest.mark.parametrize("stop", [_ctrl_c, lambda: os.kill(os.getpid(), signal.SIGTERM)], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_the_command_and_says_how_to_go_on(stop, capsys):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(typer.Exit) as end, stopping.resumable(OUT):
        stop()
    assert end.value.exit_code == 130
    said = capsys.readouterr().err
    assert said == f"Stopped. Go on with the same command and --resume; what there is so far is in {OUT}.\n"
    assert signal.getsignal(signal.SIGTERM) == before


def test_errors_pass():
    with pytest.raises(ValueError, match="an error"), stopping.resumable(pathlib.Path("runs")):
        raise ValueError("an error")


def test_sigterm_does_what_ctrl_c_would_do():
    """`fit` notes the first Ctrl-C, and ends with a whole step."""
    noted = []
    before = signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    try:
        with stopping.resumable(OUT):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before)
    assert noted == [signal.SIGTERM]


def test_sigterm_stops_where_ctrl_c_is_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(typer.Exit), stopping.told("Go on."):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before)


def test_one_of_several_processes_keeps_its_sigterm():
    before = signal.getsignal(signal.SIGTERM)
    with stopping.resumable(OUT, sigterm=False):
        assert signal.getsignal(signal.SIGTERM) == before
