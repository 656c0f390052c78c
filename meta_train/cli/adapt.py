"""`meta-train adapt`."""

import enum
import json
import pathlib
import shlex
from typing import Annotated

import typer

from meta_train.adaptation import adapt as adaptation
from meta_train.adaptation import card
from meta_train.cli import named_task
from meta_train.cli import options
from meta_train.cli import outputs
from meta_train.cli import stopping
from meta_train.tasks import user_file


class Objective(enum.Enum):
    """The loss that is lowered."""

    HELD_OUT = "held-out"
    TRAINING = "training"


def adapt(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE.py", help="Your model: see docs/your-own-model.md. Or the name of a task.")
    ],
    minutes: Annotated[float, typer.Option(min=0.0, help="How long everything may take, the verdict included.")] = 10.0,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the trainings that you make.")] = adaptation.NUM_STEPS,
    objective: Annotated[
        Objective | None,
        typer.Option(help="The final loss to lower.  [default: held-out if the file has held_out, else training]"),
    ] = None,
    no_rivals: Annotated[
        bool, typer.Option("--no-rivals", help="Leave tuned AdamW and Muon out of the verdict.")
    ] = False,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(parser=options.path, metavar="PATH", help="Folder for the result.  [default: runs/adapt/FILE]"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar and no lines about the work.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as a line of JSON.")] = False,
    data_dir: options.DataDir = None,
):
    """Adapt the default optimizer to your model, in minutes: an optimizer of your own.

    Writes theta.safetensors, card.md, report.json and curves.png to the folder. If the adapted optimizer is not better
    than the default on new seeds, it says so, and there is no theta.safetensors. Stop it with Ctrl-C at any time, and
    continue with --resume, there or on another machine.

    Example: python -m meta_train adapt mine.py --minutes 10 --steps 1000
    """
    options.use_data_dir(data_dir)
    out = out or pathlib.Path("runs") / "adapt" / pathlib.Path(file).stem
    outputs.check_folder(out)
    tell = (lambda line: None) if quiet else outputs.tell
    with stopping.resumable(out):
        adapted = adaptation.adapt(
            file if user_file.is_file(file) else named_task.load(file, [steps]),
            minutes=minutes,
            num_steps=steps,
            objective=None if objective is None else objective.value,
            rivals=() if no_rivals else adaptation.RIVALS,
            out=out,
            resume=resume,
            seed=seed,
            quiet=quiet,
            command=f"python -m meta_train {shlex.join(context.obj or ['adapt', file])}",
            progress=tell,
        )
    print(json.dumps(adapted.report, allow_nan=False) if as_json else card.as_text(adapted.report))
