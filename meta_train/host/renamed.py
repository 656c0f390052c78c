"""Old names of a module, which still work and warn."""

from collections.abc import Callable
from collections.abc import Mapping
import importlib
from typing import Any
import warnings


def renamed(module: str, new_names: Mapping[str, str]) -> Callable[[str], Any]:
    """Makes a module's `__getattr__`, which finds things by the names that they had before.

    Assign it to `__getattr__` under `if not TYPE_CHECKING:`, so that a type checker still reports unknown names.

    Args:
      module: the module's `__name__`.
      new_names: old name -> the name in the module that took its place.

    Returns:
      A function from a name to the object. It warns with a DeprecationWarning for an old name, and raises
      AttributeError for any other.

    Example:
      >>> get = renamed("math", {"squareroot": "sqrt"})
      >>> with warnings.catch_warnings(record=True) as caught:
      ...     warnings.simplefilter("always")
      ...     get("squareroot")(9.0)
      3.0
      >>> print(caught[0].message)
      math.squareroot is a deprecated name: use math.sqrt.
    """

    def get(name):
        if name not in new_names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        new = new_names[name]
        warnings.warn(f"{module}.{name} is a deprecated name: use {module}.{new}.", DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(module), new)

    return get
