"""What somebody probably meant who wrote a name that does not exist."""

from collections.abc import Iterable
import difflib


def hint(name: str, choices: Iterable[str]) -> str:
    """Returns "Did you mean 'NAME'? ", with the choice that is most like the name, or "" if none is like it.

    Capitals, hyphens and underscores make no difference.

    Example:
      >>> hint("Adam_1e3", ["adam", "adam-1e-3"]) + "Choose from adam, adam-1e-3."
      "Did you mean 'adam-1e-3'? Choose from adam, adam-1e-3."
    """
    plain = {_plain(choice): choice for choice in choices}
    near = difflib.get_close_matches(_plain(name), plain, n=1)
    return f"Did you mean {plain[near[0]]!r}? " if near else ""


def _plain(name):
    return name.lower().replace("_", "-")
