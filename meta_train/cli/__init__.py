"""The command line, a command a file: `python -m meta_train {demo,train,watch,runs,evaluate,…}`."""

import sys
import traceback
import warnings

import typer

from meta_train.cli import adapt
from meta_train.cli import compare
from meta_train.cli import demo
from meta_train.cli import evaluate
from meta_train.cli import few_shot
from meta_train.cli import list_tasks
from meta_train.cli import plot
from meta_train.cli import runs
from meta_train.cli import train
from meta_train.cli import tune
from meta_train.cli import watch
from meta_train.host import cores
from meta_train.host import parallel
from meta_train.training import engine

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would read text in square brackets, such as defaults, as markup
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Meta-train learned optimizers and evaluate them.\n\n"
        "Start with 'demo'. Then 'train' a recipe, 'evaluate' the result, and 'compare' it with others."
    ),
)
app.command()(demo.demo)
app.command(help=train.train_help())(train.train)
app.command()(watch.watch)
app.command()(runs.runs)
app.command()(evaluate.evaluate)
app.command()(compare.compare)
app.command()(adapt.adapt)
app.command()(tune.tune)
app.command("few-shot", help=few_shot.help_text())(few_shot.few_shot)
app.command("tasks")(list_tasks.list_tasks)
app.command()(plot.plot)


def run(argv: list[str]) -> int:
    """Runs one command on all cores. Returns the exit status; errors are printed to standard error."""
    cores.use_all_cores()
    engine.cache_compilations()
    form = warnings.formatwarning
    warnings.formatwarning = lambda message, *place, **line: f"meta-train: {message}\n"  # without lines of our sources
    try:
        return app(args=argv, prog_name="meta-train", obj=argv) or 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BrokenPipeError:  # nobody reads any more
        raise
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"meta-train: {error}", file=sys.stderr)
        return 2
    except Exception:
        if not parallel.busy():
            raise
        traceback.print_exc()  # here, for the process ends before Python would show it: see `parallel.leave`
        return 1
    finally:
        warnings.formatwarning = form
