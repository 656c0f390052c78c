"""Spaces of settings to search: real numbers, integers and choices, each a unit interval to the search.

A search with fidelities works on vectors of numbers from 0 to 1, one for each setting. `decode` makes settings of them.
"""

from collections.abc import Mapping
import math
from typing import Any
from typing import NamedTuple
from typing import Protocol

import numpy as np


class DecodeFn(Protocol):
    """Reads a setting's value."""

    def __call__(self, unit: float, /) -> Any:
        """Returns the value.

        Args:
          unit: from 0 to 1; evenly drawn numbers give the values in their proportions.
        """
        ...


class Dimension(NamedTuple):
    """A setting.

    Fields:
      decode: `(unit) -> value`, from a number between 0 and 1.
      description: the range, as text; a resumed search compares it.
    """

    decode: DecodeFn
    description: str


Space = Mapping[str, Dimension]  # by the settings' names


def real(low: float, high: float, *, log: bool = False) -> Dimension:
    """A real number.

    Args:
      low, high: the range, both ends included.
      log: whether to search evenly in its logarithm, as for rates.

    Raises:
      ValueError: if the range is empty or not finite, or log is asked of numbers that are not positive.

    Example:
      >>> round(real(1e-4, 1e-2, log=True).decode(0.5), 6)
      0.001
    """
    _check_range(low, high, log)
    if log:
        return Dimension(
            lambda unit: _between(math.exp(math.log(low) + unit * math.log(high / low)), low, high),
            f"real {low!r} to {high!r}, log",
        )
    return Dimension(lambda unit: _between(low + unit * (high - low), low, high), f"real {low!r} to {high!r}")


def integer(low: int, high: int, *, log: bool = False) -> Dimension:
    """A whole number.

    Args:
      low, high: the range, both ends included.
      log: whether to search evenly in its logarithm, as for sizes.

    Raises:
      TypeError: if low or high is no integer.
      ValueError: if the range is empty, or log is asked of numbers that are not positive.

    Example: a third of the unit interval for each of three numbers, or with log the share log(1 + 1 / n).
      >>> [integer(1, 3).decode(unit) for unit in (0.0, 0.4, 0.7, 1.0)]
      [1, 2, 3, 3]
      >>> [integer(1, 3, log=True).decode(unit) for unit in (0.0, 0.4, 0.7, 1.0)]
      [1, 1, 2, 3]
    """
    for name, value in {"low": low, "high": high}.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} must be an integer, got {value!r}: use real for other numbers.")
    _check_range(low, high, log)
    if log:
        return Dimension(
            lambda unit: _between(math.floor(math.exp(math.log(low) + unit * math.log((high + 1) / low))), low, high),
            f"integer {low} to {high}, log",
        )
    return Dimension(
        lambda unit: _between(low + math.floor(unit * (high + 1 - low)), low, high), f"integer {low} to {high}"
    )


def choice(*options: Any) -> Dimension:
    """One of some options.

    Args:
      options: give them in their order where they have one: differential evolution takes neighbors for similar.

    Raises:
      ValueError: if there is no option.

    Example:
      >>> [choice("sgd", "adam").decode(unit) for unit in (0.0, 0.4, 0.6, 1.0)]
      ['sgd', 'sgd', 'adam', 'adam']
    """
    if not options:
        raise ValueError("choice needs at least one option, got none.")
    last = len(options) - 1
    return Dimension(lambda unit: options[min(math.floor(unit * len(options)), last)], f"choice of {options!r}")


def decode(space: Space, vector: np.ndarray) -> dict[str, Any]:
    """The settings that a vector stands for.

    Args:
      space: the dimensions by name.
      vector: float64[dimensions], numbers from 0 to 1.

    Example:
      >>> import numpy as np
      >>> decode({"rate": real(0.0, 2.0), "layers": integer(1, 4)}, np.array([0.25, 0.9]))
      {'rate': 0.5, 'layers': 4}
    """
    return {name: each.decode(float(unit)) for (name, each), unit in zip(space.items(), vector, strict=True)}


def check_space(space: Space) -> None:
    """Raises ValueError if a space has no dimension, TypeError if something in it is none."""
    if not space:
        raise ValueError("the space needs at least one dimension, got none: give settings by name.")
    for name, each in space.items():
        if not isinstance(each, Dimension):
            raise TypeError(f"{name!r} must be a dimension made by real, integer or choice, got {each!r}.")


def _between(value, low, high):
    return min(max(value, low), high)  # rounding may lead a last bit out of the range


def _check_range(low, high, log):
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"low must lie below high, both finite, got {low} and {high}.")
    if log and not low > 0:
        raise ValueError(f"a logarithmic range must be positive, got low={low}.")
