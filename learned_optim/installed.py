"""What installed packages offer by entry points. Nothing is looked up before it is asked for, and no package is run."""

import importlib.metadata
import re
from typing import NamedTuple


class Offer(NamedTuple):
    """An entry point of an installed package."""

    name: str  # of the entry point
    value: str  # what stands behind the equals sign
    package: str  # the normalized name of the package, as pip lists it
    version: str  # of the package
    point: importlib.metadata.EntryPoint


def offers(group: str) -> list[Offer]:
    """Returns the entry points of a group, in the order of packages and names.

    Args:
      group: such as "learned_optim.pretrained".

    Example:
      >>> offers("learned_optim.no_such_group")
      []
    """
    found = []
    for point in importlib.metadata.entry_points(group=group):
        package = "" if point.dist is None else point.dist.name or ""
        version = "" if point.dist is None else point.dist.version or ""
        found.append(Offer(point.name, point.value.strip(), normalized(package), version, point))
    return sorted(found, key=lambda offer: (offer.package, offer.name, offer.value))


def describe(offer: Offer) -> str:
    """Returns an offer in words, for messages."""
    return f"the entry point {offer.value!r} of the installed package {offer.package!r} (version {offer.version})"


def normalized(package: str) -> str:
    """Returns the name of a package in the form that all its spellings share.

    https://packaging.python.org/en/latest/specifications/name-normalization/

    Example:
      >>> normalized("Small.Optimizers_2")
      'small-optimizers-2'
    """
    return re.sub(r"[-_.]+", "-", package).lower()
