"""`meta-train compare`."""

import pathlib
import sys
from typing import Annotated

import typer

from meta_train import tasks
from meta_train.cli import named_optimizer
from meta_train.cli import options
from meta_train.cli import outputs
from meta_train.evaluation import evaluate as evaluation
from meta_train.evaluation import report
from meta_train.host.counted import counted


def compare(
    optimizers: options.Optimizers,
    task: Annotated[str, typer.Option(help="Name of the task.")] = "digits-mlp",
    steps: options.Steps = 500,
    seeds: options.Seeds = 5,
    out: Annotated[
        pathlib.Path, typer.Option(parser=options.path, metavar="PATH", help="PNG file for the training curves.")
    ] = pathlib.Path("compare.png"),
    data_dir: options.DataDir = None,
):
    """Compare optimizers on one task: a table, and curves as a PNG.

    Example: python -m meta_train compare default runs/mine/theta.safetensors --task digits-softmax
    """
    options.use_data_dir(data_dir)
    chosen = tasks.get(task)
    loaded = {name: named_optimizer.load(name, [steps])(steps) for name in optimizers}
    outputs.check_file(out, outputs.PICTURES)
    results = evaluation.compare(chosen, loaded, num_steps=steps, num_seeds=seeds, progress=_progress)
    print(f"\n{task}, {counted(steps, 'step')}, {counted(seeds, 'seed')}\n{report.table(results)}")
    report.plot({task: results}, out)
    print(f"Wrote {out}")


def _progress(line):
    print(line, file=sys.stderr, flush=True)
