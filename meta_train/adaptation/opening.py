"""How `adapt` and `tune` begin: the model is read and checked, and the journal and the clock are started."""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import os
import pathlib
from typing import Any
from typing import NamedTuple
from typing import Protocol

from meta_train.adaptation import clock
from meta_train.adaptation import entry_checks
from meta_train.adaptation import probe
from meta_train.adaptation.clock import Clock
from meta_train.adaptation.journal import Journal
from meta_train.host import user_code
from meta_train.host.progress import TellFn
from meta_train.tasks import user_file
from meta_train.tasks.base import Task

JOURNAL_FILE = "journal.jsonl"


class SetUpFn(Protocol):
    """Prepares a model."""

    def __call__(self, task: Task, /) -> Any:
        """Prepares it.

        Args:
          task: the model.

        Returns:
          A NamedTuple with at least `task`, whose held-out data are those for the verdict, `whole`, the same with all
          held-out data, and `objective`, the loss that counts.
        """
        ...


class Run(NamedTuple):
    """A run that has begun, or goes on."""

    setup: Any  # what `set_up` returned
    journal: Journal
    timer: Clock


@contextlib.contextmanager
def opened(
    task: Task | str | os.PathLike[str],
    set_up: SetUpFn,
    settings: Mapping[str, Any],
    *,
    what: str,
    minutes: float,
    num_steps: int,
    out: str | os.PathLike[str] | None,
    resume: bool,
    quiet: bool,
    progress: TellFn,
) -> Iterator[Run]:
    """Reads and checks the model, and starts the journal and the clock.

    Args:
      task: the model, or the path of its file; errors in that file's code are told in its own lines.
      set_up: prepares it.
      settings: what else the measurements depend on, as JSON values.
      what: what to call the work in errors.
      minutes, num_steps, out, resume, quiet, progress: as of `adapt`.

    Raises:
      ValueError: if the model cannot be trained, or the folder holds a run with other settings.

    Example:
      >>> import types
      >>> from meta_train import tasks
      >>> set_up = lambda task: types.SimpleNamespace(task=task, whole=task, objective="training")
      >>> options = {"what": "a test", "out": None, "resume": False, "quiet": True, "progress": print}
      >>> with opened(tasks.get("quadratic"), set_up, {}, minutes=1.0, num_steps=10, **options) as run:
      ...     run.timer.left() > 50.0
      True
    """
    file = None if isinstance(task, Task) else pathlib.Path(task)
    with user_code.told(file) if file else contextlib.nullcontext():
        if not isinstance(task, Task):
            task = user_file.from_file(task, num_batches=max(1000, num_steps), progress=progress)
        setup = set_up(task)
        found = probe.probe(setup.task)
        for line in entry_checks.check_gradient(setup.task, found):
            progress(line)
        settings = {
            "model": probe.fingerprint(setup.whole, found),
            "minutes": minutes,
            "num_steps": num_steps,
            "objective": setup.objective,
            **settings,
        }
        path = None if out is None else pathlib.Path(out) / JOURNAL_FILE
        journal = Journal(path, settings, resume=resume, what=what)
        with clock.shown(journal.seconds, 60.0 * minutes, quiet=quiet) as timer:
            yield Run(setup, journal, timer)


def facts(
    run: Run, *, minutes: float, seed: int, command: str | None, out: str | os.PathLike[str] | None
) -> dict[str, Any]:
    """What the report says of the run itself, as JSON values.

    Args:
      run: finished.
      minutes: that it was given.
      seed: of the search.
      command: that repeats it.
      out: its folder.
    """
    return {
        "minutes": minutes,
        "minutes_taken": run.journal.seconds() / 60.0,
        "seed": seed,
        "command": command,
        "folder": None if out is None else str(out),
    }
