"""Commands that can be stopped and go on: what Ctrl-C and SIGTERM do."""

from collections.abc import Iterator
import contextlib
import pathlib
import signal
import sys
import threading

import typer

KEPT = "What baselines gave is kept: the same command goes on from there."  # of commands that judge
_INTERRUPTED = 130  # the exit status


def resumable(out: pathlib.Path, *, sigterm: bool = True) -> contextlib.AbstractContextManager[None]:
    """`told` for a command with an option --resume.

    Args:
      out: folder with what there is so far.
      sigterm: as of `told`.

    Example:
      >>> with resumable(pathlib.Path("runs/mine")):
      ...     pass
    """
    return told(f"Go on with the same command and --resume; what there is so far is in {out}.", sigterm=sigterm)


@contextlib.contextmanager
def told(how: str, *, sigterm: bool = True) -> Iterator[None]:
    """On Ctrl-C, and on SIGTERM as batch systems send it, says how to go on and exits with status 130.

    SIGTERM does what Ctrl-C does at that moment, so that `fit` ends with a whole step and a last checkpoint on either.

    Args:
      how: a sentence.
      sigterm: False leaves SIGTERM as it is: a process that waits for others cannot answer it.

    Example:
      >>> with told("The same command goes on from there."):
      ...     pass
    """
    before = None
    if sigterm and threading.current_thread() is threading.main_thread():  # elsewhere Python sets no handlers
        before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        print(f"Stopped. {how}", file=sys.stderr)
        raise typer.Exit(_INTERRUPTED) from None
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _interrupt(number, frame):
    interrupt = signal.getsignal(signal.SIGINT)
    if not callable(interrupt):  # jobs in the background begin with Ctrl-C ignored
        raise KeyboardInterrupt
    interrupt(number, frame)
