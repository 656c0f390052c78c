"""Errors in files that users write, such as recipes: shown with the line of that file, without a traceback."""

from collections.abc import Iterator
import contextlib
import os
import traceback


@contextlib.contextmanager
def told(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns an error in the code of a file, or in what that code calls, into a ValueError that shows the file's line.

    Other errors are raised unchanged.

    Args:
      path: the file.

    Example:
      >>> with told("nowhere.py"):
      ...     1 / 0
      Traceback (most recent call last):
      ZeroDivisionError: division by zero
    """
    try:
        yield
    except Exception as error:
        message = _message(path, error)
        if message is None:
            raise
        raise ValueError(message) from error


def _message(path, error):
    """The last line of the file in the traceback, and the error; None if the file is not in the traceback."""
    what = "".join(traceback.format_exception_only(error)).rstrip()
    if isinstance(error, SyntaxError) and error.filename is not None and _same(error.filename, path):
        return f"there is an error in a file of yours:\n{what}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _same(frame.filename, path)]
    if not frames:
        return None
    return f"there is an error in {path}, line {frames[-1].lineno}:\n    {frames[-1].line}\n{what}"


def _same(one, other):
    return os.path.abspath(one) == os.path.abspath(other)
