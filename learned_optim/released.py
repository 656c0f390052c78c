"""Optimizers by name: the released ones, whose weights come with the library, those of installed packages, and folders.

The weights are in the package `learned_optim.pretrained`, which is the folder `pretrained` of a checkout.
"""

from collections.abc import Callable
import functools
import importlib.resources
import os
import pathlib
from typing import Any
from typing import NamedTuple
import warnings

import jax
import jax.typing
import numpy as np
import optax

from learned_optim import cards
from learned_optim import checkpoint
from learned_optim import checks
from learned_optim import nearest
from learned_optim import offered
from learned_optim import packing
from learned_optim.base import LearnedOptimizer
from learned_optim.base import Theta

# The optimizer that `learned_optimizer()` returns. Released weights never change; a better default gets a new name.
DEFAULT = "adaptive-muon-scanned-v1"

_warned: set[str] = set()  # names for which the warning about the horizon was given


def learned_optimizer(
    name: str | os.PathLike[str] = "default",
    *,
    num_steps: int | jax.Array | None = None,
    step_scale: optax.ScalarOrSchedule | None = None,
    weight_decay: float | jax.Array | None = None,
    mask: Any | Callable[[Any], Any] | None = None,
    moment_dtype: jax.typing.DTypeLike | None = None,
    mu_dtype: jax.typing.DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Returns a learned optimizer as an optax transformation: a released one, one of a package, or one from a file.

    No learning rate is tuned.

    The updates are final: they include sign and step size. `update` needs params; the loss may be passed as `value=`.
    Nothing is computed here, so a module may build an optimizer while it is imported. `num_steps`, `step_scale` and
    `weight_decay` may be traced values, such as those of `optax.inject_hyperparams`.

    Args:
      name: a name from `list_pretrained()`, or "default", or a path: of a file that `learned_optim.save` or the command
        `learned-optim convert` wrote, or of a folder that `learned_optim.pack` made, or that holds a finished run. A
        path is a `pathlib.Path`, or a string that ends in ".safetensors" or names a folder with a
        `theta.safetensors`.
      num_steps: the number of updates that you plan to make, if you know it. Architectures without progress features
        ignore it (see the card). Outside the range that a released optimizer was made for, the library warns
        once per name. A traced value below 1 means None.
      step_scale: a factor on the updates, a number or an optax schedule `(count) -> factor`. It is seldom needed: to
        choose a step size yourself, or to fine-tune with smaller steps.
      weight_decay: decoupled weight decay as in AdamW: every update subtracts `weight_decay * step_scale * param`.
        There is no learning rate in this product, so values are small, such as 1e-4.
      mask: which parameters decay, a tree of bools or a function of params, as in `optax.adamw`.
      moment_dtype: dtype of stored averages of gradients: jnp.float32 (also meant by None), or jnp.bfloat16 to save
        memory. Second moments and recurrent state stay float32, because their small increments would be lost in
        bfloat16. In momenta with a decay above .99, bfloat16 loses precision.
      mu_dtype: deprecated alias of `moment_dtype`.

    Returns:
      An `optax.GradientTransformationExtraArgs`.

    Raises:
      ValueError: if there is no optimizer of that name, if its file is damaged, or another one than its folder or
        package says, if num_steps is below 1, or if mask is given without weight_decay.
      FileNotFoundError: if there is no such file.
      TypeError: if num_steps is not a whole number, or if moment_dtype is neither float32 nor bfloat16.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> from learned_optim import learned_optimizer
      >>> tx = optax.chain(optax.clip_by_global_norm(1.0), learned_optimizer())
      >>> params = {"w": jnp.ones((3, 2))}
      >>> state = tx.init(params)
      >>> grads = jax.grad(lambda params: jnp.sum(params["w"] ** 2))(params)
      >>> updates, state = tx.update(grads, state, params)
      >>> params = optax.apply_updates(params, updates)
    """
    found = _find(name)
    num_steps = checks.num_steps(num_steps)
    moment_dtype = checks.moment_dtype(moment_dtype, mu_dtype)
    if isinstance(num_steps, int) and found.label not in _warned and (horizon := _trained_horizon(found)) is not None:
        low, high = horizon
        if not low <= num_steps <= high:
            _warned.add(found.label)
            warnings.warn(
                f"{found.label!r} was made for runs of {low} to {high} steps; num_steps={num_steps} is outside of "
                f"that range. See its card for measurements there: python -m learned_optim card {found.label}",
                stacklevel=2,
            )
    optimizer, theta = _weights(found)
    return optimizer.transform(
        theta,
        num_steps=num_steps,
        step_scale=step_scale,
        weight_decay=weight_decay,
        mask=mask,
        moment_dtype=moment_dtype,
    )


def load_pretrained(name: str | os.PathLike[str] = "default") -> tuple[LearnedOptimizer, Theta]:
    """Returns `(optimizer, theta)` of an optimizer, for example to train it further.

    Theta is a pytree of NumPy arrays that belong to the caller.

    Args:
      name: as of `learned_optimizer`.

    Raises:
      ValueError: if there is no optimizer of that name, or its file is damaged.
      FileNotFoundError: if there is no such file.

    Example:
      >>> optimizer, theta = load_pretrained()
      >>> optimizer.spec["kind"]
      'adaptive_muon'
    """
    optimizer, theta = _weights(_find(name))
    return optimizer, jax.tree.map(np.array, theta)  # copies, so that the caller cannot change the cached arrays


def list_pretrained() -> tuple[str, ...]:
    """Returns the names of the released optimizers in alphabetical order, then those of installed packages.

    The latter are "package/name". A warning names those whose package is broken; they are left out.

    Example:
      >>> "mlp-digits-v1" in list_pretrained()
      True
    """
    return *released_names(), *offered.names()


def released_names() -> tuple[str, ...]:
    """Returns the names of the optimizers that come with the library, in alphabetical order.

    Example:
      >>> DEFAULT in released_names()
      True
    """
    folder = importlib.resources.files("learned_optim.pretrained")
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.joinpath(packing.THETA).is_file()))


def card(name: str | os.PathLike[str] = "default") -> str:
    """Returns the card of an optimizer, in Markdown: how it was made, what it was tested on, where it fails.

    Args:
      name: a name from `list_pretrained()`, or "default", or the path of a folder that `learned_optim.pack` made.

    Raises:
      ValueError: if there is no optimizer of that name.
      FileNotFoundError: if it has no card, as a single file has none.
    """
    found = _find(name)
    if found.path is None:
        return (_folder(found.label) / packing.CARD).read_text(encoding="utf-8")
    path = found.path / packing.CARD
    if not path.is_file():
        raise FileNotFoundError(f"{found.label} has no card: give a folder with a {packing.CARD}, as pack makes one.")
    return path.read_text(encoding="utf-8")


class _Found(NamedTuple):
    """An optimizer that a name means."""

    label: str  # the full name, or the path
    path: pathlib.Path | None  # the file or the folder; None for a released one


def _find(name: Any) -> _Found:
    """What a name means. Names of the library are looked for first, then packages, and folders last."""
    name = DEFAULT if isinstance(name, str) and name == "default" else name
    if isinstance(name, os.PathLike) or str(name).endswith(".safetensors"):
        return _Found(os.fspath(name), pathlib.Path(name))
    names = released_names()
    if name in names:
        return _Found(name, None)
    if isinstance(name, str) and (folder := offered.folder(name)) is not None:
        return _Found(name, folder)
    if isinstance(name, str) and name and (pathlib.Path(name) / packing.THETA).is_file():
        return _Found(name, pathlib.Path(name))
    hint = f"Did you mean num_steps={name}? " if isinstance(name, int) else nearest.hint(str(name), list_pretrained())
    raise ValueError(
        f"there is no released optimizer {name!r}. {hint}Released: {', '.join(list_pretrained())}. "
        "For a file of your own, use learned_optim.load(path), or in learned_optimizer a path that ends in "
        f'.safetensors, or a folder with a {packing.THETA}. For "package/name", install the package. Weights of VeLO, '
        "Celo and others must be converted first: see docs/other-weights.md."
    )


def _weights(found: _Found) -> tuple[LearnedOptimizer, Theta]:
    if found.path is None:
        return _load(found.label)
    return packing.load(found.path) if found.path.is_dir() else checkpoint.load(found.path)


def _trained_horizon(found: _Found) -> tuple[int, int] | None:
    if found.path is not None:
        manifest = packing.manifest(found.path)
        return None if manifest is None else manifest.trained_horizon
    horizon = cards.trained_horizon(card(found.label))
    if horizon is None:
        raise ValueError(f"the card of {found.label!r} must have a row '| trained horizon | LOW–HIGH steps |'.")
    return horizon


def _folder(name):
    return importlib.resources.files("learned_optim.pretrained") / name


@functools.lru_cache(maxsize=8)
def _load(name):
    with importlib.resources.as_file(_folder(name) / packing.THETA) as path:
        return checkpoint.load(path)
