"""`meta-train tasks`."""

from typing import Annotated

import typer

from meta_train import tasks
from meta_train.cli import options
from meta_train.host import progress
from meta_train.tasks import listing


def list_tasks(
    suite: Annotated[
        str | None, typer.Option(help="meta-train, validation, test, full, large or broad.  [default: all]")
    ] = None,
    data_dir: options.DataDir = None,
):
    """List the named tasks.

    Shows the suite, family, data and where they are, number of parameters, cost of a step, and normalizer of each.

    Example: python -m meta_train tasks --suite validation
    """
    options.use_data_dir(data_dir)
    names = tuple(tasks.TASKS) if suite is None else tasks.suite(suite)
    print(listing.table([listing.describe(name) for name in progress.over(names, unit="task", delay=2, leave=False)]))
