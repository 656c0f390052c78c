"""`meta-train runs`."""

import json
import pathlib
import sys
from typing import Annotated

import typer

from meta_train.cli import options
from meta_train.cli import run_text
from meta_train.host import durations
from meta_train.training import run_status


def runs(
    folder: Annotated[
        pathlib.Path, typer.Argument(parser=options.path, metavar="FOLDER", help="Where to look.")
    ] = pathlib.Path("runs"),
    as_json: options.AsJsonLines = False,
):
    """List the meta-training runs in a folder and below, with their state.

    A run is running, stopped before its end, finished, or damaged. Hidden folders are left out.

    Example: python -m meta_train runs
    """
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is no folder: give one that holds runs, such as the one above that of 'train --out'."
        )
    table = []
    for path in run_status.find(folder):
        try:
            status, size = run_status.read(path), run_status.size(path)
        except (OSError, ValueError) as error:  # one that is removed meanwhile, or may not be read
            print(f"meta-train: {path} is left out: {error}", file=sys.stderr)
            continue
        if as_json:
            print(json.dumps(run_text.as_json(status, bytes=size)), flush=True)
        table.append((status, size))
    if as_json:
        return
    if not table:
        print(f"There is no run in {folder} or below. Begin one: python -m meta_train train demo --out runs/mine")
        return
    rows = [("run", "state", "steps", "loss", "changed", "size"), *(_row(*each) for each in table)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    for status, _ in table:
        if status.damage is not None:
            print(f"{status.folder}: {status.damage}")


def _row(status, size):
    steps = f"{status.step:,}" + ("" if status.num_steps is None else f" of {status.num_steps:,}")
    loss = "" if status.loss is None else f"{status.loss:.4g}"
    return str(status.folder), status.state, steps, loss, durations.ago(status.age), _size(size)


def _size(count):
    """Bytes in the unit that suits them."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"
