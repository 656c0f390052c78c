"""Arrays that an evaluation keeps on disk, found again only for the same program and the same inputs."""

from collections.abc import Callable
import hashlib
import io
import os
import pathlib
from typing import Any

import jax
import numpy as np

from meta_train.host import cache_folder


def digest(data: Any) -> str:
    """Digest of the contents of all arrays of a pytree. It leaves out shapes, which are in the program's text."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(data):
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()


def name(title: str, *parts: Any) -> str:
    """A file name for the result of a computation.

    Args:
      title: what the name begins with.
      *parts: all that the result depends on: text, numbers, tuples of such. The version of JAX is added.

    Example:
      >>> name("wine", "program", 3) == name("wine", "program", 4)
      False
    """
    return f"{title}-{hashlib.sha256(repr((jax.__version__, *parts)).encode()).hexdigest()[:32]}"


def remember(
    folder: str | os.PathLike[str] | None, make_name: Callable[[], str], compute: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Arrays from the folder, or else computed and put there, complete or not at all. None as folder keeps nothing.

    The folder only saves time: a damaged file in it is computed again and replaced, and where it cannot be written to,
    the arrays are returned all the same. Threads and processes may share the folder: whoever is last to finish the same
    computation replaces equal arrays.
    """
    if folder is None:
        return compute()
    path = pathlib.Path(folder) / f"{make_name()}.npz"
    arrays = _read(path)
    if arrays is None:
        arrays = compute()
        cache_folder.put(path, lambda file: _write(file, arrays))
    return arrays


def _write(file, arrays):
    np.savez_compressed(file, **arrays)


def _read(path):
    """The arrays of a file, or None if it is missing or damaged."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:  # in memory: nothing stays open
            return dict(archive)
    except Exception:  # damaged archives lead to errors of a dozen types
        return None
