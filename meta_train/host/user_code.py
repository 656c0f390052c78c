"""Python files that users write, such as recipes and tasks: loaded, and their errors shown without lines of ours."""

from collections.abc import Iterator
import contextlib
import importlib.util
import os
import pathlib
import sys
import sysconfig
import traceback
import types

import learned_optim

# Folders whose code is not the user's: Python's own library, installed packages, and the two packages here.
_LIBRARIES = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
_OTHERS = [
    os.path.abspath(folder) for folder in (*_LIBRARIES, *learned_optim.__path__, pathlib.Path(__file__).parents[1])
]


def load(path: str | os.PathLike[str], prefix: str) -> types.ModuleType:
    """Runs a Python file and returns it as a module. The file may import modules from its own folder.

    Args:
      path: a file that ends with `.py`.
      prefix: what the module's name begins with; the file's stem follows.

    Raises:
      ImportError: if the name has another ending.
      Exception: what the file itself raises.
    """
    path = pathlib.Path(path).absolute()
    name = f"{prefix}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded as a Python file: its name must end with .py.")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # at the end, so that no file of the user's hides a package
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def told(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns an error in the code of a file, or in what that code calls, into a ValueError with a short traceback.

    So it does with `sys.exit`. The traceback begins in the file. It has no lines of this package, of installed
    packages, or of Python's library. Other errors are raised unchanged.

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
    except (Exception, SystemExit) as error:
        message = _message(path, error)
        if message is None:
            raise
        raise ValueError(message) from error


def _message(path, error):
    """The user's part of the traceback, and the error; None if the file is not in the traceback."""
    if isinstance(error, SyntaxError) and error.filename is not None and not _other(error.filename):
        return f"there is an error in a file of yours:\n{_what(error)}"
    frames = traceback.extract_tb(error.__traceback__)
    first = next((i for i, frame in enumerate(frames) if _same(frame.filename, path)), None)
    if first is None:
        return None
    own = [frame for frame in frames[first:] if _same(frame.filename, path) or not _other(frame.filename)]
    return f"there is an error in {path}:\n{''.join(traceback.format_list(own))}{_what(error)}"


def _what(error):
    """The error's type and text, without the notes that JAX adds about the traceback."""
    found = traceback.TracebackException(type(error), error, None)
    found.__notes__ = None  # pyright: ignore[reportAttributeAccessIssue]  # an attribute from Python 3.11 on
    return "".join(found.format_exception_only()).rstrip()


def _other(filename):
    """Whether a file is no file of the user's. Frames of frozen modules and of text have names such as <string>."""
    return filename.startswith("<") or any(
        os.path.abspath(filename).startswith(os.path.join(folder, "")) for folder in _OTHERS
    )


def _same(one, other):
    return os.path.abspath(one) == os.path.abspath(other)
