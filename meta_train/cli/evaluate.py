"""`meta-train evaluate`."""

import json
import pathlib
import sys
from typing import Annotated

import typer

from learned_optim import nearest
from meta_train import tasks
from meta_train.cli import named_optimizer
from meta_train.cli import named_task
from meta_train.cli import options
from meta_train.cli import outputs
from meta_train.cli import planned
from meta_train.cli import stopping
from meta_train.evaluation import baselines
from meta_train.evaluation import page
from meta_train.evaluation import prior as evaluation_prior
from meta_train.evaluation import targets
from meta_train.evaluation import timing
from meta_train.evaluation import verdict
from meta_train.evaluation.baselines import BASELINES
from meta_train.evaluation.judge_suite import judge_suite
from meta_train.host.cache_folder import cache_folder
from meta_train.host.counted import counted
from meta_train.tasks import at_hand

_LARGE = "large"  # the suite that is judged with fewer runs


def evaluate(
    optimizer: options.Optimizer,
    suite: Annotated[str, typer.Option(help="meta-train, validation, test, full or large.")] = "test",
    task: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this task of the suite, or a Python file with a model of your own: see docs/your-own-model.md. "
            "May be repeated."
        ),
    ] = None,
    steps: Annotated[
        list[int] | None, typer.Option(min=1, help="Training steps of each run. May be repeated.  [default: 1000]")
    ] = None,
    seeds: options.Seeds = None,
    without_num_steps: Annotated[
        bool, typer.Option("--without-num-steps", help="Do not tell the optimizer how many steps there will be.")
    ] = False,
    prior: Annotated[
        bool,
        typer.Option(
            "--prior",
            help="Also judge the architecture as it is before meta-training: how much of the gain is design, and how "
            "much is learned.",
        ),
    ] = False,
    embedded: Annotated[bool, typer.Option("--embedded", help="Only tasks whose data pip has installed.")] = False,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help=f"May be repeated: {', '.join(BASELINES)}.  [default: the first {len(baselines.USUAL)}; "
            f"on the suite large {', '.join(baselines.FOR_LARGE)}]"
        ),
    ] = None,
    tuning: options.Tuning = options.TuningKind.RATE,
    halves: options.Halves = False,
    seconds: options.Seconds = False,
    minutes: options.Minutes = None,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(parser=options.path, metavar="PATH", help="JSON file; plots and an HTML page go beside it."),
    ] = None,
    data_dir: options.DataDir = None,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
):
    """Judge an optimizer on a suite of tasks, beside baselines.

    Some baselines are tuned for each task, the others are tuning-free. Tasks whose data are missing are skipped and
    listed. Several horizons, as in --steps 200 --steps 2000, cost little more than the longest. Tasks are judged side
    by side, one on each core or accelerator. Results of baselines are kept, so an evaluation that was stopped resumes
    when the same command is run again. The suite large takes hours: it has three seeds, ten learning rates with one
    seed each, and no speedups.

    Example: python -m meta_train evaluate default --embedded --steps 500 --out evaluation.json
    """
    options.use_data_dir(data_dir)
    tell = outputs.silent if quiet else outputs.tell
    files, others = named_task.split(task or ())
    usual = baselines.FOR_LARGE if suite == _LARGE else baselines.USUAL
    rivals = tuple(baseline or (named_task.RIVALS if files and not others else usual))
    baselines.check(rivals)
    rivals = options.tuned(rivals, tuning)
    names = _names(suite, embedded, others) if others or not files else []
    contenders = named_optimizer.contender(optimizer, steps or (), told=not without_num_steps)
    before = named_optimizer.prior(optimizer, told=not without_num_steps) if prior else {}
    if out is not None:
        outputs.check_file(out, (".json",))
    own = named_task.load_files(files, steps or (), names, tell)
    found = _load(names, must=bool(task))
    chosen = [*own, *found.tasks]
    with stopping.told(stopping.KEPT), named_task.told(files):
        plan = planned.plan(
            minutes,
            chosen,
            contenders | before,
            rivals,
            horizons=steps or (),
            default_steps=1000,
            num_seeds=seeds,
            halves=halves,
            large=suite == _LARGE and bool(names),
            tell=tell,
        )
        contenders = named_optimizer.contender(optimizer, plan.horizons, told=not without_num_steps)
        judgements = judge_suite(
            chosen,
            contenders | before,
            horizons=plan.horizons,
            num_seeds=plan.num_seeds,
            baselines=rivals,
            pacemakers=plan.pacemakers,
            halves=halves,
            learning_rates=plan.learning_rates,
            tuning_seeds=plan.tuning_seeds,
            cache=cache_folder() / "evaluations",
            quiet=quiet,
            tables=not as_json,
        )
        timings = timing.time_tasks(chosen, contenders, rivals, progress=tell) if seconds else None
    parts = [task.name for task in own]
    parts += [_which(suite, embedded, len(found.tasks), len(tasks.suite(suite)))] if names else []
    counts = " and ".join(counted(count, "step") for count in plan.horizons)
    title = f"{next(iter(contenders))}: {', '.join(parts)}, {counts}, {counted(plan.num_seeds, 'seed')}"
    made = [] if out is None else page.write(out, title, judgements, timings, with_prior=prior)
    if as_json:
        record = page.record(title, judgements, timings, with_prior=prior)
        print(json.dumps(record | {"left_out": list(found.left_out), "files": list(map(str, made))}))
        return
    _show(judgements, timings, with_prior=prior)
    if found.left_out:
        print(f"\nLeft out for lack of data: {', '.join(found.left_out)}")
    if made:
        print(f"Wrote {', '.join(map(str, made))}")


def _show(judgements, timings, *, with_prior):
    """Prints verdicts and scores."""
    for count, judged in judgements.items():
        rated = evaluation_prior.without(judged) if with_prior else judged
        print(f"\n{counted(count, 'step')}: {verdict.as_text(verdict.verdict(rated), len(judged))}")
        print(targets.as_text(targets.races(rated, timings)))
        if with_prior:
            print(evaluation_prior.as_text(evaluation_prior.gain(judged)))


def _names(suite, embedded, chosen):
    """The chosen tasks, in the order of the suite."""
    names = tasks.suite(suite, embedded=embedded)
    for name in chosen or ():
        if name not in names:
            raise ValueError(
                f"--task must be of the suite {suite!r}{' and embedded' if embedded else ''}, got {name!r}. "
                f"{_elsewhere(name, suite) or nearest.hint(name, names)}Choose from {', '.join(names)}."
            )
    if chosen:
        return [name for name in names if name in chosen]
    huge = [name for name in names if name in tasks.HUGE]
    if huge:
        outputs.tell(f"{', '.join(huge)} is left out, for a run takes hours: name it with --task.")
    return [name for name in names if name not in huge]


def _elsewhere(name, suite):
    of = tasks.TASKS[name].suite if name in tasks.TASKS else suite
    if of != suite:
        return f"It is in another one: give --suite {of}. "
    return "Its data need files: leave --embedded out. " if name in tasks.TASKS else ""


def _load(names, *, must):
    """The tasks, those whose data are missing left out unless they must be there."""
    found = at_hand.load(names)
    told = at_hand.explain(found)
    if names and (not found.tasks or (must and told)):
        raise ValueError(told)
    if told:
        print(f"{told}\n", file=sys.stderr)
    return found


def _which(suite, embedded, number, total):
    return f"suite {suite}{', embedded data' if embedded else ''}" + (
        f", {number} of {counted(total, 'task')}" if number < total else ""
    )
