"""Learned optimizers as the command line names them: released ones by their name, others by their file."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import optax

import learned_optim
from meta_train.protocol import Contender


def load(
    name: str, horizons: Sequence[int], *, step_scale: float | None = None
) -> Callable[[Any], optax.GradientTransformation]:
    """Loads an optimizer as a function of num_steps, which may be traced, or None.

    Args:
      name: a released name, or a path that ends with .safetensors.
      horizons: numbers of steps that it will be told; a warning is given here if it was not trained for one.
      step_scale: a factor on its steps.

    Raises:
      ValueError, FileNotFoundError: if there is no such optimizer.

    Example:
      >>> load("default", [500])(500).update is not None
      True
    """
    if name.endswith(".safetensors"):
        optimizer, theta = learned_optim.load(name)
    else:
        for num_steps in horizons:
            learned_optim.learned_optimizer(name, num_steps=num_steps)
        optimizer, theta = learned_optim.load_pretrained(name)
    return lambda num_steps: optimizer.transform(theta, num_steps=num_steps, step_scale=step_scale)


def contender(name: str, horizons: Sequence[int], *, told: bool = True) -> dict[str, Contender]:
    """An optimizer for `protocol.judge`, by what to call it: one that is told the number of steps, or is not."""
    if told:
        return {name: load(name, horizons)}
    return {f"{name} without num_steps": load(name, ())(None)}
