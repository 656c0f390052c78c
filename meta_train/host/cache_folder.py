"""The cache folder, which keeps compiled programs, data sets and runs of baselines for later runs.

The cache only saves time. If its folder is unknown, read-only or full, one line on stderr says so, and work continues
without it.
"""

from collections.abc import Callable
import contextlib
import os
import pathlib
import sys
import tempfile
import threading
from typing import IO

_NO_FOLDER = pathlib.Path(os.devnull)  # not a folder: nothing can be found or made in it
_told = threading.Event()  # set once a line on stderr has said that nothing is kept


def cache_folder() -> pathlib.Path:
    """The folder `learned_optim` in the user's cache folder, which XDG_CACHE_HOME names; it need not exist.

    If the user's home folder is unknown, this is a path at which no file can be found or made.
    """
    try:
        parent = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    except RuntimeError:  # HOME is not set, and the system does not know the user
        _tell_once("the home folder of this user is unknown")
        parent = _NO_FOLDER
    return parent / "learned_optim"


def is_writable(folder: pathlib.Path) -> bool:
    """Whether files can be written to a folder, which is made if it does not exist. If not, says so on stderr."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError as error:
        _tell_once(str(error))
        return False


def put(path: pathlib.Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes a file atomically: other threads and processes see all of it or none. Reports a failure on stderr.

    Args:
      path: the file, in a folder that is made if it does not exist; a file that is there is replaced.
      write: writes the contents to an open binary file.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            temporary = file.name
            write(file)
        os.replace(temporary, path)
    except OSError as error:
        _tell_once(str(error))
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):  # it has its final name
                os.unlink(temporary)


def _tell_once(reason):
    """Says on stderr why nothing is kept; only the first time in a process."""
    if not _told.is_set():
        _told.set()
        print(
            f"learned_optim: cannot keep files for later runs ({reason}) and goes on without. Set XDG_CACHE_HOME to a "
            "folder that can be written to.",
            file=sys.stderr,
        )
