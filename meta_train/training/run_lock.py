"""A lock on the folder of a run, so that two processes do not write to it at the same time."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import socket

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


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


def _taken(file):
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # no locks on this file system
            pass
    return True
