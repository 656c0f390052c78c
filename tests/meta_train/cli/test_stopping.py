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
    assert said == f"Stopped. Go on with the same command and --resume; what is measured is in {OUT}.\n"
    assert signal.getsignal(signal.SIGTERM) == before


def test_errors_pass():
    with pytest.raises(ValueError, match="an error"), stopping.resumable(pathlib.Path("runs")):
        raise ValueError("an error")
