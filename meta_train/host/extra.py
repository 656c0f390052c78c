"""The extra `meta`: packages that meta_train needs and `pip install .` does not install. This file imports none."""

from collections.abc import Callable
import importlib.util
from typing import Any
from typing import NoReturn

# Modules and the packages that have them, as in setup.cfg.
PACKAGES = {
    "matplotlib": "matplotlib",
    "orbax.checkpoint": "orbax-checkpoint",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "tqdm": "tqdm",
    "typer": "typer",
}


def missing() -> list[str]:
    """Names of the packages of the extra that are not installed. None of them is imported."""
    return [package for module, package in PACKAGES.items() if not _found(module)]


def advice(packages: list[str]) -> str:
    """How to install packages that are missing."""
    # The advice does not name this library as a package, since no package index may have it.
    return (
        f"meta_train needs packages that are not installed: {', '.join(packages)}. In a checkout of learned_optim: "
        f"pip install '.[meta]'; or anywhere: pip install {' '.join(packages)}"
    )


def stand_in(error: ModuleNotFoundError) -> Callable[[str], Any]:
    """Makes the `__getattr__` of a module whose imports failed: it says what to install.

    Args:
      error: why they could not be imported.

    Raises:
      ModuleNotFoundError: that error, if the missing module is not one of the extra.
    """
    roots = {module.partition(".")[0] for module in PACKAGES}
    if (error.name or "").partition(".")[0] not in roots:
        raise error

    def __getattr__(name: str) -> NoReturn:
        if name.startswith("__"):  # Python looks for such names by itself
            raise AttributeError(name)
        raise ModuleNotFoundError(advice(missing()), name=error.name) from error

    return __getattr__


def _found(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False
