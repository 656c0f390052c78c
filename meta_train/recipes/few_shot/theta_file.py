"""What a few-shot method learned, as a safetensors file: each array under its path in theta, such as `block_0/w`."""

import os
import pathlib
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from learned_optim import atomic_file


def save_theta(path: str | os.PathLike[str], theta: Any) -> None:
    """Writes meta-parameters to a file. An existing file is replaced atomically.

    Args:
      path: where to write. The usual ending is `.safetensors`.
      theta: a pytree of arrays, as `fit` returns it.

    Raises:
      ValueError: if theta holds NaN or infinity.
      OSError: if the file cannot be written there.
    """
    tensors = {name: np.asarray(leaf, order="C") for name, leaf in _named(theta).items()}
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ValueError(
                f"theta must be finite to be saved, but {name!r} holds NaN or infinity: training diverged. "
                "Lower the outer rate, or take another seed."
            )
    atomic_file.write(pathlib.Path(path), safetensors.numpy.save(tensors))


def load_theta(path: str | os.PathLike[str], like: Any) -> Any:
    """Reads meta-parameters that `save_theta` wrote.

    Args:
      path: the file.
      like: a theta of the same method and network, such as `Learner.theta`: it gives structure, shapes and dtypes.

    Returns:
      A pytree like that, of NumPy arrays.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is no safetensors file, or holds other arrays than `like`.

    Example:
      >>> import tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "theta.safetensors"
      >>> save_theta(path, {"head": {"b": np.ones(2, np.float32)}})
      >>> load_theta(path, {"head": {"b": np.zeros(2, np.float32)}})["head"]["b"].tolist()
      [1.0, 1.0]
    """
    path = pathlib.Path(path)
    try:
        tensors = safetensors.numpy.load(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} must be a safetensors file, and cannot be read as one: {error}.") from error
    wanted = {name: (np.shape(leaf), np.asarray(leaf).dtype) for name, leaf in _named(like).items()}
    held = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    if held != wanted:
        differing = sorted(name for name in {*held, *wanted} if held.get(name) != wanted.get(name))
        raise ValueError(
            f"{path} must hold a theta like the one given, and differs in {', '.join(map(repr, differing[:3]))}"
            f"{' and others' if len(differing) > 3 else ''}: build the learner with the same method, episodes and "
            "network that made the file."
        )
    return jax.tree.unflatten(jax.tree.structure(like), [tensors[name] for name in _named(like)])


def _named(theta):
    """The leaves, in order, by their path."""
    leaves = jax.tree.leaves_with_path(theta)
    return {jax.tree_util.keystr(keys, simple=True, separator="/") or "theta": leaf for keys, leaf in leaves}
