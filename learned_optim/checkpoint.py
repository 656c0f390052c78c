"""Saves a learned optimizer to one safetensors file, and loads it without running any code from the file.

The file is an ordinary safetensors file (https://huggingface.co/docs/safetensors). Its tensors are the leaves of
theta, named by their path, such as `linear_0/w`. Its header holds one metadata entry, `learned_optim`, a JSON object:

    {"format": 1, "spec": {"kind": "mlp", …}, "sha256": "…"}

`optimizers.build(spec)` makes the optimizer again. `sha256` covers the spec and the tensors (`_digest`), so that every
flipped bit is detected.
"""

import hashlib
import json
import os
import pathlib

import jax
import numpy as np
import safetensors
import safetensors.numpy

from learned_optim import atomic_file
from learned_optim import checks
from learned_optim import optimizers
from learned_optim.base import LearnedOptimizer
from learned_optim.base import Theta

FORMAT = 1
_METADATA_KEY = "learned_optim"
# What safetensors raises, beside its own error, for dtypes that NumPy lacks and for shapes beyond its limits.
_UNREADABLE = (safetensors.SafetensorError, AttributeError, TypeError, ValueError)


def save(path: str | os.PathLike[str], optimizer: LearnedOptimizer, theta: Theta) -> None:
    """Writes an optimizer's spec and theta to a safetensors file. An existing file is replaced atomically.

    Args:
      path: where to write. The usual ending is `.safetensors`.
      optimizer: the optimizer whose `init` made theta.
      theta: its meta-parameters, a pytree of float32 arrays.

    Raises:
      ValueError: if theta does not fit the optimizer, is not float32 or holds NaN or infinity, if the path is a folder,
        or if `load` could not build the optimizer. Register an architecture of your own with
        `learned_optim.register_architecture` first.
      OSError: if the file cannot be written there.
      TypeError: if optimizer is not a `LearnedOptimizer`.

    Example:
      >>> import jax, learned_optim, os, tempfile
      >>> optimizer = learned_optim.mlp(hidden_sizes=(4,))
      >>> path = os.path.join(tempfile.mkdtemp(), "mine.safetensors")
      >>> learned_optim.save(path, optimizer, optimizer.init(jax.random.key(0)))
      >>> optimizer, theta = learned_optim.load(path)
    """
    if not isinstance(optimizer, LearnedOptimizer):
        raise TypeError(
            f"save takes a path, a LearnedOptimizer and its theta, got {type(optimizer).__name__} as the optimizer: "
            "pass what a constructor such as learned_optim.mlp() returns."
        )
    path = pathlib.Path(path)
    if path.is_dir() or not path.name:
        raise ValueError(f"path must name a file, got {str(path)!r}, a folder: add a name such as theta.safetensors.")
    checks.theta(theta, optimizer.init, optimizer.spec["kind"])
    _check_loadable(optimizer)
    tensors = {_name(keys): np.asarray(leaf) for keys, leaf in jax.tree.leaves_with_path(theta)}
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32:
            raise ValueError(f"theta must be float32 to be saved, but {name!r} is {tensor.dtype}: convert it first.")
    if (name := _not_finite(tensors)) is not None:
        raise ValueError(
            f"theta must be finite to be saved, but {name!r} holds NaN or infinity: its training diverged. "
            "Save an earlier theta, such as that of the run's last good checkpoint."
        )
    header = {"format": FORMAT, "spec": optimizer.spec, "sha256": _digest(optimizer.spec, tensors)}
    content = safetensors.numpy.save(tensors, metadata={_METADATA_KEY: json.dumps(header)})
    try:
        atomic_file.write(path, content)
    except OSError as error:
        raise OSError(
            error.errno, f"{path} cannot be written ({error.strerror}): name a file in a folder where you may write"
        ) from error


def load(path: str | os.PathLike[str]) -> tuple[LearnedOptimizer, Theta]:
    """Reads an optimizer and its theta from a file that `save` wrote.

    Args:
      path: the safetensors file.

    Returns:
      `(optimizer, theta)` with theta as NumPy arrays; `optimizer.transform(theta)` is an optax transformation.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if the file is not a safetensors file, is truncated or damaged, was not written by `save`, holds NaN
        or infinity, or contains an architecture that this version does not know.
    """
    tensors, header = _read(pathlib.Path(path))
    try:
        optimizer = optimizers.build(header["spec"])
        skeleton = checks.abstract_theta(optimizer.init)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    names = [_name(keys) for keys, _ in jax.tree.leaves_with_path(skeleton)]
    if sorted(names) != sorted(tensors):
        raise ValueError(
            f"{path}: an optimizer of kind {optimizer.spec['kind']!r} has the tensors {sorted(names)}, "
            f"the file contains {sorted(tensors)}. It was not written by learned_optim.save: write it again with that."
        )
    others = [f"{name!r} is {tensor.dtype}" for name, tensor in tensors.items() if tensor.dtype != np.float32]
    if others:
        raise ValueError(
            f"{path}: the tensors must be float32, but {others[0]}. It was not written by learned_optim.save: write it "
            "again with that."
        )
    # An error, not a warning: `save` no longer writes such files, and their first update would spoil the parameters.
    if (name := _not_finite(tensors)) is not None:
        raise ValueError(
            f"{path}: the tensors must be finite, but {name!r} holds NaN or infinity, so every parameter would become "
            "NaN. Use an earlier file of this optimizer. To look into this one: safetensors.numpy.load_file(path)."
        )
    theta = jax.tree.unflatten(jax.tree.structure(skeleton), [tensors[name] for name in names])
    try:
        checks.theta(theta, optimizer.init, optimizer.spec["kind"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return optimizer, theta


def is_saved(path: str | os.PathLike[str]) -> bool:
    """Returns whether a file is one that `save` wrote, by its header. Its content may be damaged.

    Raises:
      OSError: if there is no such file, or it cannot be read.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return _METADATA_KEY in (file.metadata() or {})
    except safetensors.SafetensorError:
        return False


def _check_loadable(optimizer):
    """Raises ValueError unless the spec, after a round trip through JSON, builds an optimizer with the same theta."""
    kind = optimizer.spec["kind"]
    try:
        spec = json.loads(json.dumps(optimizer.spec, allow_nan=False))
        found = checks.abstract_theta(optimizers.build(spec).init)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a {kind!r} optimizer cannot be saved, because it could not be loaded: {error}") from error
    if found != checks.abstract_theta(optimizer.init):
        raise ValueError(
            f"a {kind!r} optimizer cannot be saved, because its spec {spec} builds one with another theta. "
            "The spec must contain every argument of the constructor that changes theta."
        )


def _read(path):
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder: name the file in it, such as {path / 'theta.safetensors'}.")
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}. For a released optimizer, use learned_optim.learned_optimizer(name).")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except _UNREADABLE as error:
        raise ValueError(
            f"{path} is not a complete safetensors file ({error}): it is damaged, truncated, or of another format. "
            "Copy it again from where it was saved. Weights of other projects are read by `learned-optim convert`."
        ) from error
    try:
        header = json.loads(metadata[_METADATA_KEY])
        file_format, spec, expected = header["format"], header["spec"], header["sha256"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is a safetensors file, but does not contain a learned optimizer: its header has no valid "
            f"{_METADATA_KEY!r} entry. Write such files with learned_optim.save, or with `learned-optim convert` from "
            "weights of other projects. What a recipe learned that is no optimizer, such as data or a loss, is read by "
            "meta_train.recipes.few_shot.load_theta."
        ) from error
    if file_format != FORMAT:
        raise ValueError(f"{path} has format {file_format}, this version reads {FORMAT}: upgrade learned_optim.")
    if _digest(spec, tensors) != expected:
        raise ValueError(f"{path} is damaged: its content does not match the checksum in its header. Copy it again.")
    return tensors, header


def _not_finite(tensors):
    """The name of a tensor that holds NaN or infinity, or None."""
    return next((name for name, tensor in tensors.items() if not np.isfinite(tensor).all()), None)


def _name(keys):
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def _digest(spec, tensors):
    """SHA-256 over the spec, then name, dtype, shape and little-endian bytes of every tensor, in the order of names."""
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name}\0{array.dtype.name}\0{array.shape}\0".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()
