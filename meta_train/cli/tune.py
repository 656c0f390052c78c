"""`meta-train tune`."""

import json
import pathlib
import shlex
from typing import Annotated

import typer

from meta_train.cli import named_task
from meta_train.cli import options
from meta_train.cli import outputs
from meta_train.cli import stopping
from meta_train.cli.adapt import Objective
from meta_train.tasks import user_file
from meta_train.tuning import outcome
from meta_train.tuning import tune as tuning


def tune(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE.py", help="Your model: see docs/your-own-model.md. Or the name of a task.")
    ],
    minutes: Annotated[float, typer.Option(min=0.0, help="How long everything may take, the verdict included.")] = 10.0,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the trainings that you make.")] = tuning.NUM_STEPS,
    blocks: Annotated[int, typer.Option(min=1, help="Values of each schedule.")] = tuning.NUM_BLOCKS,
    objective: Annotated[
        Objective | None,
        typer.Option(help="The final loss to lower.  [default: held-out if the file has held_out, else training]"),
    ] = None,
    forward: Annotated[
        bool,
        typer.Option(
            "--forward", help="Differentiate forwards, in memory that does not grow with --steps, but slowly."
        ),
    ] = False,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(parser=options.path, metavar="PATH", help="Folder for the result.  [default: runs/tune/FILE]"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the trainings that are differentiated.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar and no lines about the work.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as a line of JSON.")] = False,
    data_dir: options.DataDir = None,
):
    """Learn schedules of learning rate, momentum and weight decay for SGD on your model.

    A grid of 100 constant settings is tried first; the schedules are learned from the best of them on, by derivatives
    of the final loss of whole trainings. Writes schedule.json, schedule.png and report.json to the folder, and prints
    the optax code. If the schedules are not better than the constants on new seeds, it says so, and there is no
    schedule.json. Stop it with Ctrl-C at any time, and continue with --resume.

    Example: python -m meta_train tune mine.py --minutes 10 --steps 1000
    """
    options.use_data_dir(data_dir)
    out = out or pathlib.Path("runs") / "tune" / pathlib.Path(file).stem
    outputs.check_folder(out)
    with stopping.resumable(out):
        tuned = tuning.tune(
            file if user_file.is_file(file) else named_task.load(file, [steps]),
            minutes=minutes,
            num_steps=steps,
            num_blocks=blocks,
            objective=None if objective is None else objective.value,
            way="forward" if forward else "backprop",
            out=out,
            resume=resume,
            seed=seed,
            quiet=quiet,
            command=f"python -m meta_train {shlex.join(context.obj or ['tune', file])}",
            progress=outputs.silent if quiet else outputs.tell,
        )
    print(json.dumps(tuned.report, allow_nan=False) if as_json else outcome.as_text(tuned.report))
