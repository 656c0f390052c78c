"""`meta-train watch`."""

import json
import pathlib
import shutil
import sys
import time
from typing import Annotated

import typer

from meta_train.cli import options
from meta_train.cli import run_text
from meta_train.training import run_status


def watch(
    run: Annotated[pathlib.Path, typer.Argument(parser=options.path, metavar="RUN", help="Folder of a run.")],
    once: Annotated[bool, typer.Option("--once", help="Show the run as it is, and end.")] = False,
    every: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="Time between two looks.")] = 2.0,
    as_json: options.AsJsonLines = False,
):
    """Watch a meta-training run, live in the terminal.

    Shows the step, the loss with a small curve, the signal-to-noise ratio of the meta-gradient, the time that is left,
    the losses of the tasks, the age of the last checkpoint, and whether a process is at work. It ends when the run
    ends. Ctrl-C ends the watching and not the run, whose files are only read. Where there is no terminal, it prints a
    line each time that the run has gone on.

    Example: python -m meta_train watch runs/mine
    """
    try:
        _follow(run, once=once, every=every, as_json=as_json)
    except KeyboardInterrupt:
        print("\nNo longer watching. The run is as it was.", file=sys.stderr)
        raise typer.Exit(130) from None


def _follow(run, *, once, every, as_json):
    show = _json if as_json else _Screen().show if sys.stdout.isatty() else _Lines(whole=once).show
    while True:
        status = run_status.read(run)
        show(status)
        sys.stdout.flush()
        if once or status.state != run_status.RUNNING:
            return
        time.sleep(every)


def _json(status):
    print(json.dumps(run_text.as_json(status)))


class _Screen:
    """Draws a run on a terminal, each time over the last one."""

    def __init__(self):
        self._height = 0

    def show(self, status):
        columns, rows = shutil.get_terminal_size()
        lines = run_text.snapshot(status, columns=columns, rows=rows - 1, encoding=sys.stdout.encoding)
        if self._height:
            print(f"\x1b[{self._height}A\x1b[J", end="")
        print("\n".join(lines))
        self._height = len(lines)


class _Lines:
    """Prints a run to a file or a pipe: whole, or a line each time that it has changed."""

    def __init__(self, whole):
        self._whole, self._last = whole, None

    def show(self, status):
        if self._whole:
            print("\n".join(run_text.snapshot(status, columns=120, encoding=sys.stdout.encoding)))
        elif (status.state, status.step) != self._last:
            print(run_text.one_line(status))
        self._last = status.state, status.step
