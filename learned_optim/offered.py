"""Optimizers that installed packages offer, by the entry point group `learned_optim.pretrained`.

The name of an entry point is that of the optimizer. Its value is the dotted path of a folder that `pack` made, within
the package:

    [project.entry-points."learned_optim.pretrained"]
    small-v1 = "my_package.small_v1"

The optimizer is then `my-package/small-v1`: the package's name for pip, and that of the entry point. The folder is
found without importing the package, so that its code is not run.
"""

import importlib.util
import pathlib
import re
import warnings

from learned_optim import installed
from learned_optim import nearest
from learned_optim import packing
from learned_optim.installed import Offer

ENTRY_POINTS = "learned_optim.pretrained"


def names() -> tuple[str, ...]:
    """Returns "package/name" of all optimizers that are offered. A warning names those whose folder is missing.

    Example:
      >>> isinstance(names(), tuple)
      True
    """
    found = []
    for offer in installed.offers(ENTRY_POINTS):
        try:
            _folder(offer)
        except ValueError as error:
            warnings.warn(f"{_name(offer)} is left out: {error}", stacklevel=3)
        else:
            found.append(_name(offer))
    return tuple(dict.fromkeys(found))


def folder(name: str) -> pathlib.Path | None:
    """Returns the folder of an optimizer that a package offers, or None if no package of that name offers any.

    Args:
      name: "package/name".

    Raises:
      ValueError: if the package offers others only, or its folder is missing.
    """
    package, _, optimizer = name.partition("/")
    of_package = [each for each in installed.offers(ENTRY_POINTS) if each.package == installed.normalized(package)]
    if not optimizer or not of_package:
        return None
    for offer in of_package:
        if offer.name == optimizer:
            return _folder(offer)
    choices = [_name(offer) for offer in of_package]
    raise ValueError(
        f"the installed package {of_package[0].package!r} offers no optimizer {optimizer!r}. "
        f"{nearest.hint(name, choices)}It offers {', '.join(choices)}."
    )


def _name(offer: Offer):
    return f"{offer.package}/{offer.name}"


def _folder(offer: Offer):
    """The folder, found without running code of the package."""
    said = f"{installed.describe(offer)}, group {ENTRY_POINTS!r},"
    if not re.fullmatch(r"[^\W\d]\w*(\.\w+)*", offer.value):
        raise ValueError(
            f"{said} must be the dotted path of a folder, such as 'my_package.small_v1': tell the package's authors."
        )
    top, *parts = offer.value.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except Exception:  # finders of packages may raise anything
        spec = None
    places = [pathlib.Path(place, *parts) for place in (spec and spec.submodule_search_locations) or ()]
    for place in places:
        if all((place / file).is_file() for file in (packing.MANIFEST, packing.THETA)):
            return place
    lacking = f"{' or '.join(map(str, places))} lacks {packing.MANIFEST} or {packing.THETA}"
    reason = lacking if places else f"there is no package {top!r}"
    raise ValueError(
        f"{said} leads to no folder that learned_optim.pack made: {reason}. "
        "Install the package again, or tell its authors to include the folder as package data."
    )
