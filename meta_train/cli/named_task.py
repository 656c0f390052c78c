"""Tasks as the command line names them: named tasks by name, a user's own model by its file."""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import pathlib

from meta_train import tasks
from meta_train.cli import outputs
from meta_train.host import user_code
from meta_train.host.progress import TellFn
from meta_train.tasks import user_file
from meta_train.tasks.base import Task

# Baselines beside the judged optimizers on a model of the user's: those that he would take otherwise.
RIVALS = ("adamw-cosine", "muon", "adam", "schedule-free", "prodigy")
_NUM_BATCHES = 1000  # kept of a file's batches, or as many as the longest run has steps


def split(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits names of tasks into files and the others.

    Example:
      >>> split(["mine.py", "digits-mlp"])
      (['mine.py'], ['digits-mlp'])
    """
    files = [name for name in names if user_file.is_file(name)]
    return files, [name for name in names if name not in files]


def load(name: str, horizons: Sequence[int], tell: TellFn = outputs.tell) -> Task:
    """Loads a task.

    Args:
      name: of a named task, or the path of a file that ends with `.py`.
      horizons: numbers of steps that it will be trained for, as far as they are known.
      tell: is told about the model and its data.

    Raises:
      ValueError: if there is no such task, or the file is refused; see `user_file.from_file`.
    """
    if not user_file.is_file(name):
        if name not in tasks.TASKS and pathlib.Path(name).exists():
            raise ValueError(f"the name of a file with a model must end with .py, got {name}.")
        return tasks.get(name)
    return user_file.from_file(name, num_batches=max([_NUM_BATCHES, *horizons]), progress=tell)


def load_files(
    paths: Sequence[str], horizons: Sequence[int], others: Sequence[str], tell: TellFn = outputs.tell
) -> list[Task]:
    """Loads tasks of files, which must be named differently from each other and from the others.

    Raises:
      ValueError: if two have the same name, or as `load` does.
    """
    found = []
    for path in paths:
        found.append(load(path, horizons, tell))
        if found[-1].name in (*others, *(task.name for task in found[:-1])):
            raise ValueError(f"tasks must have different names, and two are named {found[-1].name!r}. Rename {path}.")
    return found


@contextlib.contextmanager
def told(names: Sequence[str]) -> Iterator[None]:
    """Shows an error in one of the files among the names of tasks as `user_code.told` does."""
    with contextlib.ExitStack() as stack:
        for path in split(names)[0]:
            stack.enter_context(user_code.told(path))
        yield
