"""`meta-train demo`."""

import pathlib
import sys
from typing import Annotated

import typer

from meta_train.cli import options
from meta_train.cli import outputs
from meta_train.cli import showcase as showcase


def demo(
    out: Annotated[
        pathlib.Path, typer.Option(parser=options.path, metavar="PATH", help="Folder for what the demo makes.")
    ] = pathlib.Path("demo"),
):
    """Train with the released optimizer, meta-train one, compare.

    It takes a few minutes. An interrupted demo continues when it is started again.
    """
    outputs.check_folder(out)
    try:
        showcase.run(out)
    except KeyboardInterrupt:
        print(f"Stopped. Go on with the same command; what there is so far is in {out}.", file=sys.stderr)
        raise typer.Exit(130) from None
