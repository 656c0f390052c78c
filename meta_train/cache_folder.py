"""Where things are kept from run to run that can be made again: compiled programs, data sets, runs of baselines."""

import os
import pathlib


def cache_folder() -> pathlib.Path:
    """The folder `learned_optim` in the user's cache folder, which XDG_CACHE_HOME names; it need not exist."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "learned_optim"
