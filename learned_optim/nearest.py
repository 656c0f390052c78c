"""Suggests the name that a user probably meant when a name does not exist."""

from collections.abc import Iterable
import difflib


def hint(name: str, choices: Iterable[str]) -> str:
    """Returns "Did you mean 'NAME'? " with the most similar choice, or "" if none is similar.

    The comparison ignores case and treats underscores as hyphens.

    Example:
      >>> hint("Adam_1e3", ["adam", "adam-1e-3"]) + "Choose from adam, adam-1e-3."
      "Did you mean 'adam-1e-3'? Choose from adam, adam-1e-3."
    """
    plain = {_plain(choice): choice for choice in choices}
    near = difflib.get_close_matches(_plain(name), plain, n=1)
    return f"Did you mean {plain[near[0]]!r}? " if near else ""


def _plain(name):
    return name.lower().replace("_", "-")
