"""The command line: `python -m meta_train {demo,train,evaluate,compare}`."""

import json
import pathlib
import sys
from typing import Annotated
from typing import NoReturn

import typer

import learned_optim
import meta_train
from meta_train import demo as showcase
from meta_train import distributed
from meta_train import engine
from meta_train import evaluate as evaluation
from meta_train import recipes
from meta_train import report
from meta_train import tasks

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
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard's event files too.")] = False,
    num_processes: Annotated[int, typer.Option(min=1, help="Processes that share the run.")] = 1,
    coordinator: Annotated[str | None, typer.Option(help="HOST:PORT of process 0.")] = None,
    process_id: Annotated[int | None, typer.Option(min=0, help="Which of the processes this is.")] = None,
):
    """Meta-train a recipe. Writes theta.safetensors, metrics.jsonl and checkpoints to the folder.

    Stop it with Ctrl-C whenever you like, and go on with --resume.

    With --num-processes alone, that many processes are started on this machine. On several machines start one on each,
    with the same --coordinator and its own --process-id, and a folder that all of them see.

    Example: python -m meta_train train demo --out runs/mine
    """
    if (coordinator is None) != (process_id is None):
        raise ValueError("--coordinator and --process-id go together: give both, or neither to stay on this machine.")
    if process_id is not None:
        distributed.initialize(coordinator, num_processes, process_id)
    elif num_processes > 1:
        raise typer.Exit(distributed.launch(context.obj, num_processes))
    chosen = recipes.get(recipe, num_steps=steps, seed=seed)
    out = out or pathlib.Path("runs") / pathlib.Path(recipe).stem
    try:
        result = recipes.run(chosen, run_dir=out, resume=resume, tensorboard=tensorboard)
    except KeyboardInterrupt:
        print(f"Stopped, and saved. Go on with: meta-train train {recipe} --out {out} --resume", file=sys.stderr)
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
    steps: Steps = 1000,
    seeds: Seeds = 5,
    out: Annotated[pathlib.Path | None, typer.Option(help="JSON file for the figures of every seed.")] = None,
):
    """Measure an optimizer on the tasks of a suite, beside Adam at 1e-3 and Adam tuned for each task.

    Example: python -m meta_train evaluate default --steps 500 --out evaluation.json
    """
    name, tx = _load(optimizer, steps)
    results = {}
    for task_name in tasks.suite(suite):
        results[task_name] = evaluation.compare(
            tasks.get(task_name), {name: tx}, num_steps=steps, num_seeds=seeds, progress=_progress
        )
        print(f"\n{task_name}, {steps} steps, {seeds} seeds\n{report.table(results[task_name])}\n")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report.as_json(results), indent=2) + "\n")
        print(f"Wrote {out}")


@app.command()
def compare(
    optimizers: Annotated[
        list[str], typer.Argument(metavar="OPTIMIZER…", help="Released names or .safetensors files.")
    ],
    task: Annotated[str, typer.Option(help="Name of the task.")] = "digits-mlp",
    steps: Steps = 500,
    seeds: Seeds = 5,
    out: Annotated[pathlib.Path, typer.Option(help="PNG file for the training curves.")] = pathlib.Path("compare.png"),
):
    """Compare optimizers on one task: a table, and training curves as a PNG.

    Example: python -m meta_train compare default runs/mine/theta.safetensors --task digits-softmax
    """
    chosen = tasks.get(task)
    loaded = dict(_load(name, steps) for name in optimizers)
    results = evaluation.compare(chosen, loaded, num_steps=steps, num_seeds=seeds, progress=_progress)
    print(f"\n{task}, {steps} steps, {seeds} seeds\n{report.table(results)}")
    report.plot({task: results}, out)
    print(f"Wrote {out}")


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
    try:
        app(args=argv, prog_name="meta-train", obj=argv)
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        print(f"meta-train: {error}", file=sys.stderr)
        sys.exit(2)


def _load(name, num_steps):
    if name.endswith(".safetensors"):
        optimizer, theta = learned_optim.load(name)
        return name, optimizer.transform(theta, num_steps=num_steps)
    return name, learned_optim.learned_optimizer(name, num_steps=num_steps)


def _progress(line):
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
