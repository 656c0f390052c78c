"""Old names of modules, functions and arguments, which still work and warn."""

from collections.abc import Callable
from collections.abc import Mapping
import functools
import importlib
import importlib.abc
import importlib.machinery
import sys
from types import ModuleType
from typing import Any
from typing import TypeVar
from typing import cast
import warnings

_Function = TypeVar("_Function", bound=Callable[..., Any])


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


def renamed_argument(old: str, new: str) -> Callable[[_Function], _Function]:
    """Makes a decorator for a function that takes the keyword argument `new`: it takes it under the old name, too.

    The decorated function warns with a DeprecationWarning for the old name, and raises TypeError for both at once.

    Example:
      >>> @renamed_argument("grey", "gray")
      ... def paint(*, gray=False):
      ...     return gray
      >>> with warnings.catch_warnings(record=True) as caught:
      ...     warnings.simplefilter("always")
      ...     paint(grey=True)
      True
      >>> print(caught[0].message)
      grey= is a deprecated name of an argument of paint: use gray=.
    """

    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def call(*args, **kwargs):
            if old in kwargs:
                name = function.__name__
                if new in kwargs:
                    raise TypeError(f"{name} got both {new}= and its old name {old}=: give {new}= alone.")
                message = f"{old}= is a deprecated name of an argument of {name}: use {new}=."
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return cast(_Function, call)

    return decorate


def import_moved(old: str, new: str, *, stacklevel: int) -> ModuleType:
    """Imports a module from where it is now, and warns with a DeprecationWarning.

    Args:
      old: the full name that it had.
      new: its full name.
      stacklevel: whom the warning blames, as in `warnings.warn`: 1 is the caller of this function.
    """
    warnings.warn(f"{old} has moved: import {new}.", DeprecationWarning, stacklevel=stacklevel + 1)
    return importlib.import_module(new)


class MovedModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets `import` find modules by the names that they had before they moved: `sys.meta_path.append(MovedModules(…))`.

    The import system asks it only for names that nothing else has found, and imports a module when its old name is
    imported. The warning comes at the first import in a process; from then on the old name is in `sys.modules`.
    """

    def __init__(self, new_names: Mapping[str, str]):
        """Takes the table: full name before -> full name now."""
        self._new_names = dict(new_names)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Finds the module if it has moved."""
        del path, target
        return importlib.machinery.ModuleSpec(fullname, self) if fullname in self._new_names else None

    def exec_module(self, module: ModuleType) -> None:
        """Puts the module that has moved in the place of the empty one that the import system has made."""
        name = module.__name__
        sys.modules[name] = import_moved(name, self._new_names[name], stacklevel=2)
