"""What a run writes down for those who watch it, in `session.json`: how far it is to go, and since when it is at work.

Nothing is resumed from this file. A run of an earlier version has none, and can be resumed and watched all the same.
"""

import json
import pathlib
import time
from typing import NamedTuple

from learned_optim import atomic_file

FILE = "session.json"


class Session(NamedTuple):
    """The last time that somebody began to work on a run."""

    num_steps: int  # outer steps of the whole run
    first_step: int  # outer steps that were made before
    began: float  # seconds since 1970


def write(folder: pathlib.Path, *, num_steps: int, first_step: int) -> None:
    """Writes down that work on a run begins.

    Args:
      folder: of the run.
      num_steps: outer steps of the whole run.
      first_step: outer steps that were made before.

    Example:
      >>> import tempfile
      >>> folder = pathlib.Path(tempfile.mkdtemp())
      >>> write(folder, num_steps=600, first_step=0)
      >>> read(folder).num_steps
      600
    """
    session = Session(int(num_steps), int(first_step), time.time())
    atomic_file.write(folder / FILE, (json.dumps(session._asdict()) + "\n").encode())


def read(folder: pathlib.Path) -> Session | None:
    """Returns what was written down last, or None if there is nothing that can be read."""
    try:
        held = json.loads((folder / FILE).read_text(encoding="utf-8"))
        session = Session(int(held["num_steps"]), int(held["first_step"]), float(held["began"]))
    except (KeyError, OSError, OverflowError, TypeError, ValueError, RecursionError):
        return None
    return session if session.num_steps >= 1 else None
