"""Cards of optimizers: Markdown that says how one was made, what it was tested on, and where it fails."""

from collections.abc import Mapping
import re

_ROW = re.compile(r"^\| trained horizon \| (\d+)(?:–(\d+))? steps \|$", re.MULTILINE)


def trained_horizon(text: str) -> tuple[int, int] | None:
    """Returns the fewest and the most steps of the runs that an optimizer was trained on, or None if a card has no row.

    Args:
      text: the card.

    Example:
      >>> trained_horizon("| trained horizon | 100–2000 steps |")
      (100, 2000)
    """
    match = _ROW.search(text)
    return None if match is None else (int(match[1]), int(match[2] or match[1]))


def horizon_row(horizon: tuple[int, int]) -> str:
    """Returns what `trained_horizon` reads, without the row's name.

    Example:
      >>> horizon_row((50, 50))
      '50 steps'
    """
    low, high = horizon
    return f"{low} steps" if low == high else f"{low}–{high} steps"


def write(name: str, rows: Mapping[str, str]) -> str:
    """Returns a card to be completed by hand.

    Args:
      name: of the optimizer.
      rows: what is known, by what to call it.
    """
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return (
        f"# {name}\n\n"
        "Not described yet: say here what it was trained on, what it was compared with, on tasks and seeds that it did "
        f"not see, and where it fails.\n\n| | |\n|---|---|\n{table}\n"
    )
