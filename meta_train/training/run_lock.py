"""A lock on the folder of a run, so that two processes do not write to it at the same time."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import socket
import time

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_ATTEMPTS, _PAUSE_SECONDS = 4, 0.05  # `at_work` holds a lock for a moment


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
    """Holds the lock of a folder, the file `lock` in it.

    The operating system frees it when the process ends, however it ends. On Windows, and on file systems without
    locks, nothing is locked.

    Raises:
      ValueError: if it is held already, by another process or by this one.
      OSError: if the file cannot be written.
    """
    with (folder / "lock").open("a+", encoding="utf-8") as file:
        if not _taken(file):
            file.seek(0)
            raise ValueError(
                f"another run is at work in {folder} ({file.read().strip() or 'unknown process'}): wait until it ends, "
                "or choose another folder."
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")  # for the message above
        file.flush()
        yield


def at_work(folder: pathlib.Path) -> bool | None:
    """Returns whether a process holds the lock of a folder; None where there are no locks. Nothing is changed.

    Example:
      >>> import tempfile
      >>> folder = pathlib.Path(tempfile.mkdtemp())
      >>> with held(folder):
      ...     at_work(folder)
      True
      >>> at_work(folder)
      False
    """
    if fcntl is None:
        return None
    try:
        with (folder / "lock").open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # closing the file frees it
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def holder(folder: pathlib.Path) -> str | None:
    """Returns which process took the lock of a folder last, as text, or None if that is not known."""
    try:
        return (folder / "lock").read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _taken(file):
    if fcntl is not None:
        for attempt in range(_ATTEMPTS):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if attempt + 1 == _ATTEMPTS:
                    return False
                time.sleep(_PAUSE_SECONDS)
            except OSError:  # no locks on this file system
                break
    return True
