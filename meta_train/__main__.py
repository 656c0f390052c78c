"""The command line: `python -m meta_train {demo,train,evaluate,compare,tasks,plot}`."""

import json
import os
import pathlib
import sys
import traceback
from typing import Annotated
from typing import NoReturn

import tqdm
import typer

import learned_optim
import meta_train
from meta_train import data
from meta_train import demo as showcase
from meta_train import distributed
from meta_train import engine
from meta_train import evaluate as evaluation
from meta_train import named_optimizer
from meta_train import named_outer
from meta_train import page
from meta_train import parallel
from meta_train import recipes
from meta_train import report
from meta_train import tasks
from meta_train import verdict
from meta_train.baselines import BASELINES
from meta_train.cache_folder import cache_folder
from meta_train.judge_suite import judge_suite
from meta_train.tasks import listing

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Meta-train learned optimizers, and see how good they are.\n\n"
        "Start with 'demo'. Then 'train' a recipe, 'evaluate' what came out, and 'compare' it with others."
    ),
)

Optimizer = Annotated[
    str, typer.Argument(metavar="OPTIMIZER", help="A released name ('learned-optim list') or a .safetensors file.")
]
Steps = Annotated[int, typer.Option(min=1, help="Training steps of each run.")]
Seeds = Annotated[int, typer.Option(min=1, help="Independent runs of each optimizer.")]
DataDir = Annotated[
    pathlib.Path | None,
    typer.Option(help=f"Folder with data sets in standard files.  [default: ${data.DATA_DIR_VARIABLE}]"),
]


@app.command()
def demo(out: Annotated[pathlib.Path, typer.Option(help="Folder for what the demo makes.")] = pathlib.Path("demo")):
    """Do the main job in a few minutes: train with the released optimizer, meta-train one, compare.

    An interrupted demo goes on where it was when it is started again.
    """
    showcase.run(out)


@app.command()
def train(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name, or a Python file with one.")],
    out: Annotated[pathlib.Path | None, typer.Option(help="Folder of the run.  [default: runs/RECIPE]")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Outer steps.  [default: the recipe's]")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed.  [default: the recipe's]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    outer: Annotated[
        str | None, typer.Option(help=f"Outer optimizer: {named_outer.FORMS}.  [default: the recipe's]")
    ] = None,
    step_scale: Annotated[
        float | None, typer.Option(help="With --outer: a factor on the steps of a learned outer optimizer.")
    ] = None,
    max_step: Annotated[float | None, typer.Option(help="With --outer: largest norm of a step of theta.")] = None,
    trust_ratio: Annotated[
        float | None, typer.Option(help="With --outer: largest step of a tensor of theta, as a share of its norm.")
    ] = None,
    max_rise: Annotated[
        float | None, typer.Option(help="With --outer: go back to the best theta if the meta-loss rises by more.")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard's event files too.")] = False,
    num_processes: Annotated[int, typer.Option(min=1, help="Processes that share the run.")] = 1,
    coordinator: Annotated[str | None, typer.Option(help="HOST:PORT of process 0.")] = None,
    process_id: Annotated[int | None, typer.Option(min=0, help="Which of the processes this is.")] = None,
    data_dir: DataDir = None,
):
    """Meta-train a recipe. Writes theta.safetensors, metrics.jsonl and checkpoints to the folder.

    Stop it with Ctrl-C whenever you like, and go on with --resume.

    With --outer another outer optimizer than the recipe's moves theta: AdamW, a learned optimizer, theta itself (live),
    or a population of random initialisations that train each other. See docs/self-training.md.

    With --num-processes alone, that many processes are started on this machine. On several machines start one on each,
    with the same --coordinator and its own --process-id, and a folder that all of them see.

    Example: python -m meta_train train demo --out runs/mine
    """
    _use_data_dir(data_dir)
    if (coordinator is None) != (process_id is None):
        raise ValueError("--coordinator and --process-id go together: give both, or neither to stay on this machine.")
    if process_id is not None:
        distributed.initialize(coordinator, num_processes, process_id)
    elif num_processes > 1:
        raise typer.Exit(distributed.launch(context.obj, num_processes))
    chosen = recipes.get(recipe, num_steps=steps, seed=seed)
    bounds = {"step_scale": step_scale, "max_step": max_step, "trust_ratio": trust_ratio, "max_rise": max_rise}
    if outer is not None:
        made = named_outer.build(outer, chosen.optimizer, chosen.num_steps, **bounds)
        chosen = chosen._replace(outer_optimizer=made, share=1.0)  # the share was chosen for the recipe's own
    elif any(bound is not None for bound in bounds.values()):
        raise ValueError(
            "--step-scale, --max-step, --trust-ratio and --max-rise are for what --outer names: give --outer as well."
        )
    out = out or pathlib.Path("runs") / pathlib.Path(recipe).stem
    try:
        result = recipes.run(chosen, run_dir=out, resume=resume, tensorboard=tensorboard)
    except KeyboardInterrupt:
        print(f"Stopped, and saved. Go on with the same command and --resume; the run is in {out}.", file=sys.stderr)
        raise typer.Exit(130) from None
    if not distributed.is_main():
        return
    learned_optim.save(out / "theta.safetensors", chosen.optimizer, result.theta)
    tail = result.metrics[-max(1, len(result.metrics) // 20) :]
    print(f"Mean meta-loss of the last {len(tail)} outer steps: {sum(row['loss'] for row in tail) / len(tail):.3f}")
    print(f"Wrote {out / 'theta.safetensors'}. Next: python -m meta_train evaluate {out / 'theta.safetensors'}")


@app.command()
def evaluate(
    optimizer: Optimizer,
    suite: Annotated[str, typer.Option(help="meta-train, validation or test.")] = "test",
    task: Annotated[list[str] | None, typer.Option(help="Only this task of the suite. May be repeated.")] = None,
    steps: Annotated[
        list[int] | None, typer.Option(min=1, help="Training steps of each run. May be repeated.  [default: 1000]")
    ] = None,
    seeds: Seeds = 5,
    without_num_steps: Annotated[
        bool, typer.Option("--without-num-steps", help="Do not tell the optimizer how many steps there will be.")
    ] = False,
    embedded: Annotated[bool, typer.Option("--embedded", help="Only tasks whose data pip has installed.")] = False,
    baseline: Annotated[
        list[str] | None, typer.Option(help=f"May be repeated: {', '.join(BASELINES)}.  [default: all]")
    ] = None,
    out: Annotated[pathlib.Path | None, typer.Option(help="JSON file; plots and an HTML page go beside it.")] = None,
    data_dir: DataDir = None,
):
    """Judge an optimizer on the tasks of a suite, beside tuned and tuning-free baselines.

    Several horizons, as in --steps 200 --steps 2000, cost little more than the longest. Tasks are judged side by
    side, one on each core or accelerator. What baselines gave is kept, and an evaluation that was stopped goes on where
    it was when it is started again.

    Example: python -m meta_train evaluate default --embedded --steps 500 --out evaluation.json
    """
    _use_data_dir(data_dir)
    horizons = sorted(set(steps or [1000]))
    contenders = named_optimizer.contender(optimizer, horizons, told=not without_num_steps)
    if out is not None and out.suffix != ".json":
        raise ValueError(f"--out must be a file that ends with .json, got {out}.")
    names = tasks.suite(suite, embedded=embedded)
    strangers = [name for name in task or () if name not in names]
    if strangers:
        raise ValueError(
            f"--task must be of the suite {suite!r}, got {strangers[0]!r}: take one of {', '.join(names)}."
        )
    chosen = [tasks.get(name) for name in names if not task or name in task]  # all, for some data may be missing
    judgements = judge_suite(
        chosen,
        contenders,
        horizons=horizons,
        num_seeds=seeds,
        baselines=tuple(baseline or BASELINES),
        cache=cache_folder() / "evaluations",
    )
    for count, found in judgements.items():
        print(f"\n{count} steps: {verdict.as_text(verdict.verdict(found), len(found))}")
    if out is not None:
        which = f"suite {suite}{', embedded data' if embedded else ''}{', some tasks' if task else ''}"
        title = f"{next(iter(contenders))}: {which}, {' and '.join(map(str, horizons))} steps, {seeds} seeds"
        print(f"Wrote {', '.join(map(str, page.write(out, title, judgements)))}")


@app.command()
def compare(
    optimizers: Annotated[
        list[str], typer.Argument(metavar="OPTIMIZER…", help="Released names or .safetensors files.")
    ],
    task: Annotated[str, typer.Option(help="Name of the task.")] = "digits-mlp",
    steps: Steps = 500,
    seeds: Seeds = 5,
    out: Annotated[pathlib.Path, typer.Option(help="PNG file for the training curves.")] = pathlib.Path("compare.png"),
    data_dir: DataDir = None,
):
    """Compare optimizers on one task: a table, and training curves as a PNG.

    Example: python -m meta_train compare default runs/mine/theta.safetensors --task digits-softmax
    """
    _use_data_dir(data_dir)
    chosen = tasks.get(task)
    loaded = {name: named_optimizer.load(name, [steps])(steps) for name in optimizers}
    results = evaluation.compare(chosen, loaded, num_steps=steps, num_seeds=seeds, progress=_progress)
    print(f"\n{task}, {steps} steps, {seeds} seeds\n{report.table(results)}")
    report.plot({task: results}, out)
    print(f"Wrote {out}")


@app.command("tasks")
def list_tasks(
    suite: Annotated[str | None, typer.Option(help="meta-train, validation or test.  [default: all]")] = None,
    data_dir: DataDir = None,
):
    """List the named tasks: suite, family, data and whether they are at hand, parameters, cost, normaliser.

    Example: python -m meta_train tasks --suite validation
    """
    _use_data_dir(data_dir)
    names = tasks.TASKS if suite is None else tasks.suite(suite)
    print(listing.table([listing.describe(name) for name in tqdm.tqdm(names, leave=False, delay=2)]))


@app.command()
def plot(
    run: Annotated[pathlib.Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    out: Annotated[pathlib.Path | None, typer.Option(help="PNG file.  [default: RUN/curves.png]")] = None,
):
    """Draw the curves of a meta-training run, finished or not: losses, gradient norm, dropped particles.

    Example: python -m meta_train plot runs/mine
    """
    path = run / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    if not rows:
        raise ValueError(f"{run} holds no run with metrics: give the folder that 'train --out' wrote to.")
    out = out or run / "curves.png"
    report.plot_run(rows, out)
    print(f"Wrote {out}")


def main(argv: list[str] | None = None) -> NoReturn:
    """Runs one command and exits: with status 0, 2 for bad arguments, or 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    meta_train.use_all_cores()
    engine.cache_compilations()
    parallel.leave(_status(argv))


def _status(argv):
    try:
        return app(args=argv, prog_name="meta-train", obj=argv)
    except SystemExit as end:
        return end.code
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        print(f"meta-train: {error}", file=sys.stderr)
        return 2
    except Exception:
        if not parallel.busy():
            raise
        traceback.print_exc()  # here, for `leave` ends the process before Python would show it
        return 1


def _use_data_dir(folder):
    """Lets this process, and those that it starts, find data sets in a folder."""
    if folder is not None:
        if not folder.is_dir():
            raise ValueError(f"--data-dir must be a folder, got {folder}.")
        os.environ[data.DATA_DIR_VARIABLE] = str(folder.absolute())


def _progress(line):
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
