"""Checks that a file holds the arrays of an architecture, and no others."""

from collections.abc import Collection
from collections.abc import Mapping
import re
from typing import TypeAlias

import numpy as np

Arrays: TypeAlias = Mapping[str, np.ndarray]
"""Arrays by their path in the reference's theta, such as `rnn_params/linear/w`."""

Shape: TypeAlias = tuple[int | str, ...]
"""A shape in which a name stands for a size that the file decides, the same wherever the name occurs."""


def sizes(arrays: Arrays, shapes: Mapping[str, Shape]) -> dict[str, int]:
    """Returns the sizes that the names in `shapes` stand for.

    Args:
      arrays: what a file holds.
      shapes: the shape of every array that it should hold.

    Raises:
      ValueError: if an array is missing, unknown, of another shape, not float32, or has a value that is not finite.

    Example:
      >>> import numpy as np
      >>> sizes({"w": np.ones((3, 4), np.float32), "b": np.ones(4, np.float32)}, {"w": (3, "h"), "b": ("h",)})
      {'h': 4}
    """
    missing, unknown = sorted(set(shapes) - set(arrays)), sorted(set(arrays) - set(shapes))
    if missing or unknown:
        raise ValueError(
            f"expected {len(shapes)} arrays, of which are missing: {listed(missing)}; it has others: "
            f"{listed(unknown)}. It is incomplete, or of another optimizer: see docs/other-weights.md for those "
            "that can be read."
        )
    found: dict[str, int] = {}
    for name, expected in shapes.items():
        array = arrays[name]
        if array.dtype != np.float32:
            raise ValueError(f"{name!r} must be float32, got {array.dtype}: save the weights as float32.")
        named = zip(expected, array.shape, strict=False)
        if array.ndim != len(expected) or any(size != _size(want, size, found) for want, size in named):
            want = ", ".join(f"{each}={found[each]}" if each in found else str(each) for each in expected)
            raise ValueError(
                f"{name!r} should have shape ({want}), got {array.shape}. It is damaged, or of another optimizer."
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{name!r} has values that are not finite, expected weights: download the file again.")
    return found


def depth(names: Collection[str], pattern: str) -> int:
    """Counts the names that match a regular expression as a whole.

    Example:
      >>> depth(["nn/~/w0", "nn/~/w1", "nn/~/b0"], r"nn/~/w\\d")
      2
    """
    return sum(re.fullmatch(pattern, name) is not None for name in names)


def listed(names: Collection[str]) -> str:
    """Returns the first names in alphabetical order, each in quotes and cut at 60 characters.

    Example:
      >>> listed(["w", "b"]), listed([])
      ("'b', 'w'", 'none')
    """
    first = sorted(names)[:4]
    return ", ".join([*(repr(name[:60]) for name in first), *(["…"] if len(names) > 4 else [])]) or "none"


def _size(want, size, found):
    """The size that is expected. The first size that a name meets is what it stands for."""
    return want if isinstance(want, int) else found.setdefault(want, size)
