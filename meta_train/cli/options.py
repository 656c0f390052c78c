"""Arguments and options that several commands have."""

from collections.abc import Sequence
import enum
import os
import pathlib
from typing import Annotated

import typer

from meta_train import data
from meta_train.cli import planned
from meta_train.evaluation import baselines


def path(text: str | pathlib.Path) -> pathlib.Path:
    """A path from the command line. An empty one, as from a shell variable that is not set, would mean this folder.

    Raises:
      typer.BadParameter: if the text is empty.
    """
    if not str(text).strip():
        raise typer.BadParameter("expected a path, got ''. Give '.' for the current folder.")
    return pathlib.Path(text)


OPTIMIZER_HELP = (
    "a name from 'learned-optim list', a .safetensors file, or a folder: of a run, or of 'learned-optim pack'"
)

Optimizer = Annotated[str, typer.Argument(metavar="OPTIMIZER", help=f"{OPTIMIZER_HELP.capitalize()}.")]
Optimizers = Annotated[list[str], typer.Argument(metavar="OPTIMIZER", help=f"Each {OPTIMIZER_HELP}.")]
Seeds = Annotated[
    int | None, typer.Option(min=1, help=f"Independent runs of each optimizer.  [default: {planned.NUM_SEEDS}]")
]
Minutes = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        help="Chooses what fits into so many minutes: seeds, learning rates to tune over, and steps unless --steps is "
        "given.",
    ),
]


class TuningKind(enum.Enum):
    """What of the baselines is tuned."""

    RATE = "rate"
    FULL = "full"


Tuning = Annotated[
    TuningKind,
    typer.Option(
        help="'rate' tunes baselines over a grid of learning rates. 'full' adds Adam, AdamW and Muon, as far as they "
        "are among the baselines, tuned by 20 trials over rate, decay, warm-up and β₂."
    ),
]
Halves = Annotated[
    bool,
    typer.Option(
        "--halves",
        help="Choose tuned baselines by held-out loss too, on half of the held-out data, and report on the other half.",
    ),
]
Seconds = Annotated[
    bool,
    typer.Option(
        "--seconds", help="Also measure what a step takes, one task after the other, and judge by seconds to a target."
    ),
]
DataDir = Annotated[
    pathlib.Path | None,
    typer.Option(
        parser=path,
        metavar="PATH",
        help=f"Folder with data sets in standard files.  [default: ${data.DATA_DIR_VARIABLE}]",
    ),
]

Quiet = Annotated[
    bool, typer.Option("--quiet", help="No progress and no remarks about the work; results, warnings and errors only.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON, for machines, and nothing else on standard output.")
]
AsJsonLines = Annotated[bool, typer.Option("--json", help="Print a line of JSON instead of text, for machines.")]


def tuned(rivals: Sequence[str], kind: TuningKind) -> tuple[str, ...]:
    """The names of the baselines, with those that --tuning adds."""
    return baselines.with_trials(rivals) if kind is TuningKind.FULL else tuple(rivals)


def use_data_dir(folder: pathlib.Path | None) -> None:
    """Lets this process, and those that it starts, find data sets in a folder; None leaves all as it is.

    Raises:
      ValueError: if it is no folder.
    """
    if folder is not None:
        if not folder.is_dir():
            raise ValueError(f"--data-dir must be a folder, got {folder}.")
        os.environ[data.DATA_DIR_VARIABLE] = str(folder.absolute())
