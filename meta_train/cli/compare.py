"""`meta-train compare`."""

import json
import pathlib
from typing import Annotated

import typer

from meta_train.cli import named_optimizer
from meta_train.cli import named_task
from meta_train.cli import options
from meta_train.cli import outputs
from meta_train.cli import planned
from meta_train.cli import stopping
from meta_train.evaluation import baselines
from meta_train.evaluation import page
from meta_train.evaluation import report
from meta_train.evaluation import targets
from meta_train.evaluation import timing
from meta_train.evaluation import verdict
from meta_train.evaluation.judge_suite import judge_suite
from meta_train.host.cache_folder import cache_folder
from meta_train.host.counted import counted
from meta_train.tasks import user_file

_RIVALS = ("adam-1e-3", "adam")  # on a named task


def compare(
    optimizers: options.Optimizers,
    task: Annotated[
        str,
        typer.Option(help="Name of the task, or a Python file with a model of your own: see docs/your-own-model.md."),
    ] = "digits-mlp",
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps of each run.  [default: 500]")] = None,
    seeds: options.Seeds = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help=f"May be repeated.  [default: {' and '.join(_RIVALS)}; for a file {', '.join(named_task.RIVALS)}]"
        ),
    ] = None,
    tuning: options.Tuning = options.TuningKind.RATE,
    halves: options.Halves = False,
    seconds: options.Seconds = False,
    minutes: options.Minutes = None,
    out: Annotated[
        pathlib.Path, typer.Option(parser=options.path, metavar="PATH", help="PNG file for the training curves.")
    ] = pathlib.Path("compare.png"),
    data_dir: options.DataDir = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
):
    """Compare optimizers on one task: a table, verdicts, and curves as a PNG.

    Baselines run beside them; those that have a learning rate are tuned for the task. Their results are kept, so a
    comparison that was stopped resumes when the same command is run again.

    Example: python -m meta_train compare default runs/mine/theta.safetensors --task digits-softmax
    """
    options.use_data_dir(data_dir)
    tell = outputs.silent if quiet else outputs.tell
    rivals = tuple(baseline or (named_task.RIVALS if user_file.is_file(task) else _RIVALS))
    baselines.check(rivals)
    rivals = options.tuned(rivals, tuning)
    horizons = [steps] if steps else []
    loaded = {name: named_optimizer.load(name, ()) for name in optimizers}
    outputs.check_file(out, outputs.PICTURES)
    chosen = named_task.load(task, horizons, tell)
    with stopping.told(stopping.KEPT), named_task.told([task]):
        plan = planned.plan(
            minutes,
            [chosen],
            loaded,
            rivals,
            horizons=horizons,
            default_steps=500,
            num_seeds=seeds,
            halves=halves,
            tell=tell,
        )
        loaded = {name: named_optimizer.load(name, plan.horizons) for name in optimizers}
        judgements = judge_suite(
            [chosen],
            loaded,
            horizons=plan.horizons,
            num_seeds=plan.num_seeds,
            baselines=rivals,
            pacemakers=plan.pacemakers,
            halves=halves,
            learning_rates=plan.learning_rates,
            cache=cache_folder() / "evaluations",
            quiet=quiet,
            tables=not as_json,
        )
        timings = timing.time_tasks([chosen], loaded, rivals, progress=tell) if seconds else None
    for judged in judgements.values():
        (found,) = judged.values()
        report.plot({chosen.name: [*found.contenders, *found.baselines]}, out)
    if as_json:
        print(json.dumps(_record(chosen.name, judgements, timings, len(loaded)) | {"files": [str(out)]}))
        return
    for count, judged in judgements.items():
        for number in range(len(loaded)):
            print(f"\n{counted(count, 'step')}: {verdict.as_text(verdict.verdict(judged, number), len(judged))}")
        print(f"\n{targets.as_text(targets.races(judged, timings))}")
    if timings is not None:
        print(f"\n{timing.as_text(timings[chosen.name])}")
    print(f"Wrote {out}")


def _record(title, judgements, timings, number):
    """The comparison as JSON values: that of an evaluation, with a verdict for each of the optimizers."""
    record = page.record(title, judgements, timings)
    for count, judged in judgements.items():
        at = record["horizons"][str(count)]
        del at["verdict"]
        at["verdicts"] = [verdict.as_json(verdict.verdict(judged, each)) for each in range(number)]
    return record
