"""The released optimizers: weights and cards that come with the package.

The weights are in the package `learned_optim.pretrained`, which is the folder `pretrained` of a checkout.
"""

from collections.abc import Callable
import functools
import importlib.resources
import os
import re
from typing import Any
import warnings

import jax
import jax.typing
import numpy as np
import optax

from learned_optim import checkpoint
from learned_optim import checks
from learned_optim import nearest
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
    """Returns a learned optimizer, released or from a file, as an optax transformation. No learning rate is tuned.

    The updates are final: they include sign and step size. `update` needs params; the loss may be passed as `value=`.
    Nothing is computed here, so a module may build an optimizer while it is imported. `num_steps`, `step_scale` and
    `weight_decay` may be traced values, such as those of `optax.inject_hyperparams`.

    Args:
      name: a name from `list_pretrained()`, or "default", or the path of a file that `learned_optim.save` or the
        command `learned-optim convert` wrote: a `pathlib.Path`, or a string that ends in ".safetensors".
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
      ValueError: if there is no released optimizer of that name, if the file is damaged, if num_steps is below 1, or if
        mask is given without weight_decay.
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
    is_file = isinstance(name, os.PathLike) or str(name).endswith(".safetensors")
    released = None if is_file else _resolve(name)
    num_steps = checks.num_steps(num_steps)
    moment_dtype = checks.moment_dtype(moment_dtype, mu_dtype)
    if isinstance(num_steps, int) and released is not None:
        low, high = _trained_horizon(released)
        if not low <= num_steps <= high and released not in _warned:
            _warned.add(released)
            warnings.warn(
                f"{released!r} was made for runs of {low} to {high} steps; num_steps={num_steps} is outside of "
                f"that range. See its card for measurements there: python -m learned_optim card {released}",
                stacklevel=2,
            )
    optimizer, theta = checkpoint.load(name) if released is None else load_pretrained(released)
    return optimizer.transform(
        theta,
        num_steps=num_steps,
        step_scale=step_scale,
        weight_decay=weight_decay,
        mask=mask,
        moment_dtype=moment_dtype,
    )


def load_pretrained(name: str = "default") -> tuple[LearnedOptimizer, Theta]:
    """Returns `(optimizer, theta)` of a released optimizer, for example to train it further.

    Theta is a pytree of NumPy arrays that belong to the caller.

    Raises:
      ValueError: if there is no released optimizer of that name.

    Example:
      >>> optimizer, theta = load_pretrained()
      >>> optimizer.spec["kind"]
      'adaptive_muon'
    """
    optimizer, theta = _load(_resolve(name))
    return optimizer, jax.tree.map(np.array, theta)  # copies, so that the caller cannot change the cached arrays


def list_pretrained() -> tuple[str, ...]:
    """Returns the names of the released optimizers, in alphabetical order.

    Example:
      >>> "mlp-digits-v1" in list_pretrained()
      True
    """
    folder = importlib.resources.files("learned_optim.pretrained")
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.joinpath("theta.safetensors").is_file()))


def card(name: str = "default") -> str:
    """Returns the card of a released optimizer, in Markdown: how it was made, what it was tested on, where it fails.

    Raises:
      ValueError: if there is no released optimizer of that name.
    """
    return _folder(_resolve(name)).joinpath("card.md").read_text(encoding="utf-8")


def _resolve(name: Any) -> str:
    name = DEFAULT if name == "default" else name
    names = list_pretrained()
    if name not in names:
        hint = f"Did you mean num_steps={name}? " if isinstance(name, int) else nearest.hint(str(name), names)
        raise ValueError(
            f"there is no released optimizer {name!r}. {hint}Released: {', '.join(names)}. "
            "For a file of your own, use learned_optim.load(path), or in learned_optimizer a path that ends in "
            ".safetensors. Weights of VeLO, Celo and others must be converted first: see docs/other-weights.md."
        )
    return name


def _folder(name):
    return importlib.resources.files("learned_optim.pretrained") / name


@functools.lru_cache(maxsize=8)
def _load(name):
    with importlib.resources.as_file(_folder(name) / "theta.safetensors") as path:
        return checkpoint.load(path)


def _trained_horizon(name):
    match = re.search(r"^\| trained horizon \| (\d+)(?:–(\d+))? steps \|$", card(name), re.MULTILINE)
    if match is None:
        raise ValueError(f"the card of {name!r} must have a row '| trained horizon | LOW–HIGH steps |'.")
    return int(match[1]), int(match[2] or match[1])
