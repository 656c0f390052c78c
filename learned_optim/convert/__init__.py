"""Reads the weights that other projects have released, as optimizers of this library.

| format | what | files |
|---|---|---|
| `velo` | VeLO by Google, its copy `velo-4000` on Celo's hub, and PyLO's | `params`, `theta.state`, two folders |
| `velo-s` | a VeLO of Celo's hub, whose networks are not multiplied by 100 | `theta.state` |
| `velo-with-bugs` | Google's older VeLO, trained with two slips in the code | `*.checkpoint` |
| `celo`, `celo-rule`, `celo-adam` | Celo, its rule without the schedule, its schedule on Adam | `theta.state` |
| `celo2`, `celo2-base`, `elo-celo2` | Celo2, its network for all tensors, Celo2 by ELO | `theta.state`, a folder |
| `mlp`, `adafac-mlp`, `rnn-mlp` | `mlp`, `factored_mlp` and `hierarchical_mlp` by Google | `params`, `theta.state` |
| `mulo`, `elo` | μLO and ELO of PyLO, both `factored_mlp` | a folder |

`params`, `theta.state` and `*.checkpoint` are files of flax. A folder is one of PyLO on the Hugging Face hub. No file
is unpickled, and no code in a file is run. docs/other-weights.md says where the files are and what the optimizers need.
"""

from collections.abc import Callable
import fnmatch
import os
import pathlib
import re
from typing import Any
from typing import NamedTuple

import jax
import numpy as np

from learned_optim import nearest
from learned_optim.base import LearnedOptimizer
from learned_optim.base import Theta
from learned_optim.convert import celo
from learned_optim.convert import celo2
from learned_optim.convert import flax_msgpack
from learned_optim.convert import gin_settings
from learned_optim.convert import mlps
from learned_optim.convert import pylo
from learned_optim.convert import velo
from learned_optim.convert.arrays import Arrays
from learned_optim.convert.arrays import listed


class Format(NamedTuple):
    """How arrays become an optimizer."""

    convert: Callable[[Arrays, dict[str, Any]], tuple[LearnedOptimizer, Theta]]
    settings: dict[str, Any]  # arguments of our constructor, beside the sizes that the arrays show
    gin_class: str | None = None  # the class in Google's config.gin that may have others


_DEPLOYED = {"newton_schulz_steps": 5, "bias_correction": True}
FORMATS: dict[str, Format] = {
    "velo": Format(velo.convert, {"bank_multiplier": 100.0}, "HyperV2"),
    "velo-s": Format(velo.convert, {"bank_multiplier": 1.0}),
    "velo-with-bugs": Format(
        velo.convert, {"bank_multiplier": 100.0, "fixed_state": True, "equal_loss_averages": True}, "HyperV2"
    ),
    "celo": Format(celo.convert, {"scheduler": True}),
    "celo-rule": Format(celo.convert, {"scheduler": False}),
    "celo-adam": Format(celo.convert_on_adam, {}),
    "celo2": Format(celo2.convert, {**_DEPLOYED, "vector_step_multiplier": 20.0}),
    "celo2-base": Format(celo2.convert, {"newton_schulz_steps": 0, "vector_step_multiplier": None}),
    "elo-celo2": Format(celo2.convert, {**_DEPLOYED, "vector_step_multiplier": 1.0}),
    "mlp": Format(mlps.convert_mlp, {}, "MLPLOpt"),
    "adafac-mlp": Format(mlps.convert_factored, {}, "AdafacMLPLOpt"),
    "rnn-mlp": Format(mlps.convert_recurrent, {}, "RNNMLPLOpt"),
    "mulo": Format(mlps.convert_mulo, {"step_multiplier": 1e-2}, "AdafacMLPLOpt"),
    "elo": Format(mlps.convert_elo, {}),
}
"""The formats by name. Several optimizers may have arrays of the same names and shapes."""

_FLAX_NAMES = ("theta.state", "params", "*.state", "*.params", "*.checkpoint")
_SEE = "See docs/other-weights.md for the files that can be read."


def load(path: str | os.PathLike[str], format: str | None = None) -> tuple[LearnedOptimizer, Theta]:
    """Reads weights of another project.

    `learned_optim.save` writes the result to a file of this library; the command `learned-optim convert` does both.

    Args:
      path: a file of flax (`params`, `theta.state`, `*.checkpoint`), a `model.safetensors` of PyLO, or a folder that
        holds one of these, or both folders of PyLO's VeLO.
      format: a key of `FORMATS`. None: it is recognized by the names and shapes of the arrays. Where several optimizers
        have the same, the names of file and folders decide, as in `celo2-base/theta.state`, or else the first
        of `formats_of` is taken.

    Returns:
      `(optimizer, theta)`. Theta is a pytree of float32 NumPy arrays. Every number of the file that has an effect on
      updates is in it, unchanged. `optimizer.transform(theta, num_steps=…)` is an optax transformation.

    Raises:
      FileNotFoundError: if there is no such file, or one of two folders is missing.
      ValueError: if the file is damaged or holds something else; if format is unknown or has other arrays; or if
        format is None and the arrays are those of μLO and of ELO alike.
      ModuleNotFoundError: if a file of flax is to be read and the package msgpack is not installed.

    Example:
      >>> import os, tempfile
      >>> import numpy as np, safetensors.numpy
      >>> folder = os.path.join(tempfile.mkdtemp(), "elo")
      >>> os.mkdir(folder)
      >>> sizes = {"input": (8, 39), "linear_0": (8, 8), "output": (2, 8)}
      >>> arrays = {f"network.{name}.weight": np.zeros(shape, np.float32) for name, shape in sizes.items()}
      >>> arrays |= {f"network.{name}.bias": np.zeros(shape[0], np.float32) for name, shape in sizes.items()}
      >>> safetensors.numpy.save_file(arrays, os.path.join(folder, "model.safetensors"))
      >>> optimizer, theta = load(folder)
      >>> optimizer.spec["kind"], optimizer.spec["hidden_sizes"]
      ('factored_mlp', [8, 8])

    References:
      The papers are in the modules of `learned_optim.convert`.
    """
    if format is not None and format not in FORMATS:
        raise ValueError(
            f"there is no format {format!r}. {nearest.hint(str(format), tuple(FORMATS))}Known: {', '.join(FORMATS)}."
        )
    path = pathlib.Path(path)
    file = _file(path)
    try:
        arrays, formats, decided = _read(file)
        if format is not None and format not in formats:
            raise ValueError(
                f"it has the arrays of {_or(formats)}, not of {format!r}: pass one of these, or no format."
            )
        if format is None and not decided:
            raise ValueError(
                f"its arrays may be those of {_or(formats)}, and no name of file or folder says which: pass one of "
                "these as the format (--format in the command)."
            )
        found = FORMATS[format or formats[0]]
        optimizer, theta = found.convert(arrays, {**found.settings, **_gin_settings(file, found)})
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return optimizer, jax.tree.map(np.array, theta)


def formats_of(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Returns the formats that a file or folder may have. `load` takes the first, if the names of files do not differ.

    Raises:
      FileNotFoundError: as `load` does.
      ValueError: if the file is damaged, or no format has such arrays.
    """
    file = _file(pathlib.Path(path))
    try:
        return _read(file)[1]
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _file(path):
    """The file that a path means."""
    if path.is_file():
        return path
    if not path.is_dir():
        if os.path.lexists(path):
            raise FileNotFoundError(
                f"{path} is neither a file nor a folder, but a broken link or a device: name a file."
            )
        beside = sorted(map(str, path.parent.iterdir())) if path.parent.is_dir() else []
        raise FileNotFoundError(f"there is no file or folder {path}. {nearest.hint(str(path), beside)}".rstrip())
    folders = (path, *(pylo.child(path, name) for name in pylo.VELO_FOLDERS))
    from_pylo = [file for folder in folders if (file := pylo.child(folder, pylo.FILE)).is_file()][:1]
    of_flax = lambda file: any(fnmatch.fnmatch(file.name.lower(), pattern) for pattern in _FLAX_NAMES)
    files = from_pylo + sorted(file for file in path.iterdir() if file.is_file() and of_flax(file))
    if len(files) == 1:
        return files[0]
    if files:
        raise ValueError(f"the folder {path} has several files of weights: name one of {', '.join(map(str, files))}.")
    inside = ", ".join(sorted(file.name for file in path.iterdir())[:6]) or "nothing"
    raise ValueError(
        f"the folder {path} has no weights: expected {pylo.FILE} or one of {', '.join(_FLAX_NAMES)}, got {inside}. "
        f"PyTorch's .bin and .pt files are pickles, which are never read. {_SEE}"
    )


def _read(file):
    """Arrays by the reference's names, the formats that they may have, and whether the first is the right one."""
    if _is_safetensors(file):
        arrays = pylo.read(file)
        formats, decided = _formats(arrays, from_pylo=True)
    else:
        tree, is_tuple = _theta(flax_msgpack.read(file))
        arrays = flax_msgpack.flatten(tree)
        formats, decided = _formats(arrays, from_pylo=False)
        if is_tuple and "velo-with-bugs" in formats:
            formats = _first("velo-with-bugs", formats)
    named = _named(file, formats)
    return (arrays, formats, decided) if named is None else (arrays, _first(named, formats), True)


def _is_safetensors(file):
    return file.suffix.lower() == ".safetensors" or pylo.is_safetensors(file)


def _theta(tree):
    """Theta, which may be the first of a tuple or the params of a `ParameterCheckpoint`, and whether it is a tuple."""
    if set(tree) == {"0", "1", "2"} and isinstance(tree["0"], dict):
        return tree["0"], True
    return (tree["params"] if {"params", "gen_id"} <= set(tree) and isinstance(tree["params"], dict) else tree), False


def _formats(arrays, from_pylo):
    """The formats with arrays of such names, and whether the first is to be taken if nothing else is known."""
    has = lambda prefix: any(name.startswith(prefix) for name in arrays)
    if has("ffmod_params/"):
        return ("rnn-mlp",), True
    if has("ff_mod_stack/") and has("rnn_params/"):
        rows = arrays["rnn_params/linear/w"].shape[:1] if "rnn_params/linear/w" in arrays else ()
        if rows == (celo.NUM_INPUTS,):
            return ("celo", "celo-rule"), True
        return ("velo",) if from_pylo else ("velo", "velo-s", "velo-with-bugs"), True
    if has("ff_mod_stack/"):
        return ("celo2", "elo-celo2") if from_pylo else ("celo2", "celo2-base"), True
    if has("rnn_params/step_size"):
        return ("celo-adam",), True
    if has(mlps.FACTORED_PREFIX):
        return (("mulo", "elo"), False) if from_pylo else (("adafac-mlp", "mulo"), True)
    if has(mlps.MLP_PREFIX):
        return ("mlp",), True
    raise ValueError(f"expected the weights of {_or(FORMATS)}, got arrays named {listed(arrays)}. {_SEE}")


def _named(file, formats):
    """The format after which the file or one of the folders around it is called, the longest if there are several."""
    file = pathlib.Path(os.path.abspath(file))  # whose folders have names even if the path is relative to one of them
    for part in (file.stem, file.name, *(folder.name for folder in list(file.parents)[:3])):
        called = [name for name in formats if re.search(rf"(^|[^a-z0-9]){name}$", part.lower().replace("_", "-"))]
        if called:
            return max(called, key=len)
    return None


def _first(name, formats):
    return (name, *(other for other in formats if other != name))


def _gin_settings(file, found):
    config = None if _is_safetensors(file) else gin_settings.beside(file)
    return {} if config is None or found.gin_class is None else gin_settings.read(config, found.gin_class)


def _or(names):
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
