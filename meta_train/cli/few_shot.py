"""`meta-train few-shot`."""

import inspect
import json
import math
import pathlib
import shlex
import textwrap
import time
from typing import Annotated
from typing import NamedTuple

import jax
import typer

from learned_optim import nearest
from meta_train.cli import few_shot_data
from meta_train.cli import few_shot_files
from meta_train.cli import few_shot_judging
from meta_train.cli import few_shot_pictures
from meta_train.cli import few_shot_steps
from meta_train.cli import options
from meta_train.cli import outputs
from meta_train.cli import stopping
from meta_train.cli.few_shot_data import DataKind
from meta_train.host import progress
from meta_train.host.counted import counted
from meta_train.recipes import few_shot as recipes
from meta_train.recipes.few_shot import theta_file
from meta_train.training import run_folder
from meta_train.training.fit import fit


def few_shot(
    context: typer.Context,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="One of the methods above.")],
    data: Annotated[DataKind, typer.Option(help="What episodes are made of.")] = DataKind.DIGITS,
    ways: Annotated[int | None, typer.Option(help="Classes of an episode.  [default: 5]")] = None,
    shots: Annotated[
        int | None,
        typer.Option(
            help="Support examples, of each class or of a sinusoid.  [default: 1 of a class, 10 of a sinusoid]"
        ),
    ] = None,
    queries: Annotated[
        int | None, typer.Option(help="Query examples, likewise.  [default: 5 of a class, 10 of a sinusoid]")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Outer steps.  [default: the method's]")] = None,
    inner_steps: Annotated[
        int | None, typer.Option(min=1, help="Inner steps of an episode in training.  [default: the method's]")
    ] = None,
    episodes: Annotated[
        int | None, typer.Option(min=1, help="Episodes in an outer step.  [default: the method's]")
    ] = None,
    outer_rate: Annotated[
        float | None, typer.Option(help="Learning rate of the outer optimizer.  [default: the method's]")
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(help=f"Of the four convolutions for pictures.  [default: {few_shot_data.CHANNELS}]"),
    ] = None,
    no_rivals: Annotated[bool, typer.Option("--no-rivals", help="Judge nothing beside the method.")] = False,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(
            parser=options.path, metavar="PATH", help="Folder of the run.  [default: runs/few-shot/METHOD-DATA]"
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the run.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar and no lines about the work.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as a line of JSON.")] = False,
    data_dir: options.DataDir = None,
):
    """Learn to learn from a few examples, and judge it on 600 episodes of classes that training never saw.

    Writes theta.safetensors, report.json, curves.png, episode.png, metrics.jsonl and checkpoints to the folder. Stop it
    with Ctrl-C at any time, and continue with --resume. Beside the method are judged: for pictures the nearest
    neighbour on pixels and training from scratch on the support set; for sinusoids a network pretrained on all tasks.

    Example: python -m meta_train few-shot maml --data digits --ways 5 --shots 1
    """
    options.use_data_dir(data_dir)
    _check_method(method)
    if outer_rate is not None and not (math.isfinite(outer_rate) and outer_rate > 0):
        raise ValueError(f"--outer-rate must be positive, got {outer_rate}.")
    out = out or pathlib.Path("runs") / "few-shot" / f"{method}-{data.value}"
    outputs.check_folder(out)
    run_folder.check(out, resume=resume)
    setting = few_shot_data.build(data, ways=ways, shots=shots, queries=queries, channels=channels)
    init_key, judge_key, rival_key = jax.random.split(jax.random.key(seed), 3)
    given = {"num_steps": inner_steps, "num_particles": episodes, "outer_rate": outer_rate}
    learner = recipes.METHODS[method](
        setting.training, setting.network, key=init_key, **{key: x for key, x in given.items() if x is not None}
    )
    run = _Run(
        out=out,
        setting=setting,
        learner=learner,
        num_steps=few_shot_steps.default(method, data) if steps is None else steps,
        seed=seed,
        outer_rate=outer_rate,
        command=f"python -m meta_train {shlex.join(context.obj or ['few-shot', method])}",
        rivals=not no_rivals,
        quiet=quiet,
    )
    with stopping.resumable(out):
        result, costs = _train(run, resume)
        made = _judge(run, result, costs, judge_key, rival_key)
    if as_json:
        print(json.dumps(made, allow_nan=False))
        return
    print(f"{made['data']}, {few_shot_judging.NUM_EPISODES} held-out episodes, 95 % intervals:\n")
    print(few_shot_judging.table(made["evaluation"], made["score"]))
    files = (few_shot_files.THETA_FILE, few_shot_files.REPORT_FILE, few_shot_files.CURVES_FILE)
    print(f"\nWrote {', '.join(files)} and {few_shot_files.EPISODE_FILE} to {out}.")


class _Run(NamedTuple):
    """What is to be done."""

    out: pathlib.Path
    setting: few_shot_data.Setting
    learner: recipes.Learner
    num_steps: int
    seed: int
    outer_rate: float | None
    command: str
    rivals: bool
    quiet: bool

    def tell(self, line: str) -> None:
        """Prints a line about the work."""
        if not self.quiet:
            outputs.tell(line)


def _train(run, resume):
    """Meta-trains, and writes theta. Returns what `fit` does, and what it took."""
    learner = run.learner
    run.tell(
        f"{learner.name}: {learner.description}. "
        f"On {run.setting.training.name}, {counted(run.num_steps, 'outer step')} of "
        f"{counted(learner.estimator.num_particles, 'episode')}."
    )
    began = time.process_time()
    try:
        result = fit(
            learner.estimator,
            learner.theta,
            learner.outer_optimizer,
            num_steps=run.num_steps,
            seed=run.seed,
            run_dir=run.out,
            resume=resume,
            clip_norm=learner.clip_norm,
            progress=not run.quiet,
        )
    except KeyboardInterrupt:
        few_shot_files.note_session(run.out, time.process_time() - began)
        raise
    taken = few_shot_files.note_session(run.out, time.process_time() - began)
    costs = {**few_shot_files.clock(result.metrics), **taken}
    theta_file.save_theta(run.out / few_shot_files.THETA_FILE, result.theta)
    return result, costs


def _judge(run, result, costs, judge_key, rival_key):
    """Judges theta on held-out episodes, draws, and writes the report. Returns it."""
    setting, score = run.setting, few_shot_judging.score_name(run.setting)
    run.tell(f"Judging on {few_shot_judging.NUM_EPISODES} held-out episodes.")
    found = few_shot_judging.trained(setting, run.learner, result.theta)
    if run.rivals:
        found += few_shot_judging.rivals(setting, run.learner, rival_key, run.num_steps)
    rows = []
    with progress.bar(len(found), unit="contender", disable=run.quiet) as bar:
        for each in found:
            rows.append(few_shot_judging.judge(setting, each, judge_key))
            bar.update()
    made = few_shot_files.report(
        setting,
        run.learner,
        command=run.command,
        seed=run.seed,
        outer_rate=run.outer_rate,
        score=score,
        rows=rows,
        costs=costs,
        metrics=result.metrics,
    )
    few_shot_files.write_report(run.out / few_shot_files.REPORT_FILE, made)
    few_shot_pictures.curves(result.metrics, rows, score, run.out / few_shot_files.CURVES_FILE)
    few_shot_judging.draw(setting, found, run.learner.num_steps, judge_key, run.out / few_shot_files.EPISODE_FILE)
    return made


def help_text() -> str:
    """The help of the command: its docstring, and the methods that there are."""
    lines = []
    for name, make in recipes.METHODS.items():
        first = (inspect.getdoc(inspect.getmodule(make)) or "").partition("\n\n")[0].replace("\n", " ")
        text = f"{name}: {first.rpartition('`: ')[2]}"
        lines.append(textwrap.fill(text, 76, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False))
    return f"{inspect.cleandoc(few_shot.__doc__ or '')}\n\nMethods:\n\n\b\n" + "\n".join(lines)


def _check_method(method):
    if method not in recipes.METHODS:
        raise ValueError(
            f"there is no few-shot method {method!r}. {nearest.hint(method, tuple(recipes.METHODS))}"
            f"Choose from {', '.join(recipes.METHODS)}."
        )
