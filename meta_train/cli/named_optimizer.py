"""Learned optimizers as the command line names them: released and installed ones by name, others by file or folder."""

from collections.abc import Sequence
import os
import pathlib

import jax
import numpy as np

import learned_optim
from learned_optim import nearest
from meta_train.evaluation.protocol import Contender
from meta_train.evaluation.protocol import ToldStepsFn

THETA_FILE = "theta.safetensors"  # in the folder of a run that has come to its end
_FORMS = f"Give a released name, a .safetensors file, or the folder of a run, with its {THETA_FILE}."


def load(name: str, horizons: Sequence[int], *, step_scale: float | None = None) -> ToldStepsFn:
    """Loads an optimizer as a function of num_steps, which may be traced, or None.

    Args:
      name: a released name, "package/name" of an installed package, or the path of a .safetensors file, or of a folder
        with a theta.safetensors.
      horizons: numbers of steps that it will be told; a warning is given here if it was not trained for one.
      step_scale: a factor on its steps.

    Raises:
      ValueError: if there is no such optimizer, or its file is damaged.

    Example:
      >>> load("default", [500])(500).update is not None
      True
    """
    place = _place(name)
    for num_steps in horizons:
        learned_optim.learned_optimizer(place, num_steps=num_steps)
    optimizer, theta = learned_optim.load_pretrained(place)
    return lambda num_steps: optimizer.transform(theta, num_steps=num_steps, step_scale=step_scale)


def contender(name: str, horizons: Sequence[int], *, told: bool = True) -> dict[str, Contender]:
    """An optimizer for `protocol.judge`, by what to call it: one that is told the number of steps, or is not."""
    if told:
        return {name: load(name, horizons)}
    return {f"{name} without num_steps": load(name, ())(None)}


def prior(name: str, *, told: bool = True) -> dict[str, Contender]:
    """The same architecture with the theta that meta-training begins with, by what to call it.

    An architecture that begins with random weights has "random weights" in its name.

    Args:
      name: as of `load`.
      told: whether it is told the number of steps.

    Example:
      >>> list(prior("default"))
      ['default, before training']
    """
    optimizer, _ = learned_optim.load_pretrained(_place(name))
    theta, other = (optimizer.init(jax.random.key(seed)) for seed in (0, 1))
    pairs = zip(jax.tree.leaves(theta), jax.tree.leaves(other), strict=True)
    drawn = any(not np.array_equal(one, another) for one, another in pairs)
    label = f"{name}{'' if told else ' without num_steps'}, before training{' (random weights)' if drawn else ''}"
    if told:
        return {label: lambda num_steps: optimizer.transform(theta, num_steps=num_steps)}
    return {label: optimizer.transform(theta)}


def _place(name: str) -> str | pathlib.Path:
    """What `learned_optim` takes for it: a name, or the path of a file or a folder."""
    if name in _released():
        return name
    file = _file(name)
    folder = pathlib.Path(name)  # not the file in it, so that its hash is compared with that of the manifest
    return folder if folder.is_dir() else file


def _released():
    return ("default", *learned_optim.list_pretrained())


def _file(name):
    """The file that a path means."""
    path = pathlib.Path(name)
    if path.is_file():
        return path
    if name and path.is_dir():
        return _file_in(path)
    if path.suffix == ".safetensors" or os.path.basename(name) != name:
        beside = sorted(map(str, path.parent.iterdir())) if path.parent.is_dir() else []
        raise ValueError(f"there is no file or folder {name}. {nearest.hint(name, beside)}{_FORMS}")
    hint = nearest.hint(name, _released())
    raise ValueError(f"there is no released optimizer {name!r}. {hint}{_FORMS} Released: {', '.join(_released())}.")


def _file_in(folder):
    if (folder / THETA_FILE).is_file():
        return folder / THETA_FILE
    others = sorted(map(str, folder.glob("*.safetensors")))
    if others:
        raise ValueError(f"the folder {folder} has no {THETA_FILE}. Did you mean {' or '.join(others)}?")
    if (folder / "run.json").is_file():
        raise ValueError(
            f"the folder {folder} holds a run without {THETA_FILE}, for it has not come to its end: "
            "go on with it by the command that began it and --resume."
        )
    raise ValueError(f"the folder {folder} has no {THETA_FILE}. {_FORMS}")
