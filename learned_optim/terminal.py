"""Runs a command line so that it survives a terminal with a small character set and a pipe that its reader closed."""

from collections.abc import Callable
import io
import os
import sys

NOBODY_READS = 1  # the exit status after a broken pipe, the same as that of other Python programs


def run(command: Callable[[], int | None]) -> int:
    """Runs a command and returns its exit status, or 1 if the reader of its output stops early, as in `| head -1`.

    Characters that standard output or standard error cannot encode are replaced by question marks.

    Args:
      command: prints its output and returns an exit status. None means 0.

    Raises:
      Any exception of the command, including `SystemExit`, except `BrokenPipeError`.

    Example:
      >>> run(lambda: 3)
      3
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        try:
            return command() or 0
        finally:
            _flush()  # here, because an exception of the flush at the interpreter's exit cannot be caught
    except BrokenPipeError:
        _drop_output()
        return NOBODY_READS


def _flush():
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _drop_output():
    """Redirects buffered output to the null device, so that no later flush fails, not even that at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    for stream in (sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is None:
            continue
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
