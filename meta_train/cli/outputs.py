"""Checks that the files of a command can be written, before it begins to work."""

import os
import pathlib
import sys
import tempfile

PICTURES = (".png", ".pdf", ".svg")


def tell(line: str) -> None:
    """Prints a line about the work to standard error."""
    print(line, file=sys.stderr, flush=True)


def silent(line: str) -> None:
    """Takes the place of `tell` where --quiet is given."""


def check_file(path: pathlib.Path, endings: tuple[str, ...]) -> None:
    """Makes the folder of a file that is to be written.

    Args:
      path: what --out names.
      endings: those that are possible.

    Raises:
      ValueError: if it ends otherwise, is a folder, or cannot be written.
    """
    if path.suffix.lower() not in endings:
        raise ValueError(f"--out must be a file that ends with {' or '.join(endings)}, got {path}.")
    if path.is_dir():
        raise ValueError(f"--out must be a file, got the folder {path}: give a file in it, as in {path / path.name}.")
    check_folder(path.parent)
    if path.exists() and not os.access(path, os.W_OK):
        raise ValueError(f"--out cannot be written: there is a file {path} that may only be read. Choose another name.")


def check_folder(path: pathlib.Path) -> None:
    """Makes a folder that files are to be written to.

    Raises:
      ValueError: if it cannot be made or written to.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"--out must name a folder, or a file in one, but {path} is no folder. Choose another place.")
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ValueError(
            f"--out must be in a folder that can be written to, and {path} cannot: {error.strerror}. "
            "Choose another place."
        ) from error
