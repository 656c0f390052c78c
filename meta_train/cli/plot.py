"""`meta-train plot`."""

import pathlib
from typing import Annotated

import typer

from meta_train.cli import options
from meta_train.cli import outputs
from meta_train.evaluation import report
from meta_train.training import run_metrics


def plot(
    run: Annotated[pathlib.Path, typer.Argument(parser=options.path, metavar="RUN", help="Folder of a run.")],
    out: Annotated[
        pathlib.Path | None,
        typer.Option(parser=options.path, metavar="PATH", help="PNG file.  [default: RUN/curves.png]"),
    ] = None,
):
    """Draw the curves of a meta-training run, finished or not.

    Losses, gradient norm, dropped particles.

    Example: python -m meta_train plot runs/mine
    """
    path = run / "metrics.jsonl"
    rows = run_metrics.read(path) if path.is_file() else []
    if not rows:
        raise ValueError(f"{run} holds no run with metrics: give the folder that 'train --out' wrote to.")
    out = out or run / "curves.png"
    outputs.check_file(out, outputs.PICTURES)
    report.plot_run(rows, out)
    print(f"Wrote {out}")
