"""Commands that can be stopped and go on: what Ctrl-C and SIGTERM do."""

from collections.abc import Iterator
import contextlib
import pathlib
import signal
import sys
import threading

import typer

_INTERRUPTED = 130  # the exit status


@contextlib.contextmanager
def resumable(out: pathlib.Path) -> Iterator[None]:
    """On Ctrl-C, and on SIGTERM as batch systems send it, says how to go on and exits with status 130.

    Args:
      out: folder with what was measured so far.

    Example:
      >>> with resumable(pathlib.Path("runs/mine")):
      ...     pass
    """
    before = None
    if threading.current_thread() is threading.main_thread():  # elsewhere Python sets no handlers
        before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        print(f"Stopped. Go on with the same command and --resume; what is measured is in {out}.", file=sys.stderr)
        raise typer.Exit(_INTERRUPTED) from None
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _interrupt(number, frame):
    raise KeyboardInterrupt
