"""Runs a command line on any terminal: one that lacks characters, and a pipe whose reader has left."""

from collections.abc import Callable
import io
import os
import sys

NOBODY_READS = 1  # the exit status, as of other Python programs


def run(command: Callable[[], int | None]) -> int | None:
    """Runs a command and returns its exit status, or 1 if nobody reads what it prints to the end, as in `| head -1`.

    Characters that standard output or standard error cannot encode are replaced by question marks.

    Args:
      command: prints, and returns an exit status.

    Raises:
      What the command raises, `SystemExit` included, but for `BrokenPipeError`.

    Example:
      >>> run(lambda: 3)
      3
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        try:
            return command()
        finally:
            _flush()  # now, for when Python flushes at its end, nothing can be caught
    except BrokenPipeError:
        _drop_output()
        return NOBODY_READS


def _flush():
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _drop_output():
    """Lets what is still to be printed go nowhere, so that no flush fails again, not even Python's last one."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    for stream in (sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
