"""`meta-train demo`."""

import pathlib
from typing import Annotated

import typer

from meta_train.cli import options
from meta_train.cli import outputs
from meta_train.cli import showcase as showcase
from meta_train.cli import stopping


def demo(
    out: Annotated[
        pathlib.Path, typer.Option(parser=options.path, metavar="PATH", help="Folder for what the demo makes.")
    ] = pathlib.Path("demo"),
):
    """Train with the released optimizer, meta-train one, compare.

    It takes a few minutes. An interrupted demo continues when it is started again.
    """
    outputs.check_folder(out)
    with stopping.told(f"Go on with the same command; what there is so far is in {out}."):
        showcase.run(out)
