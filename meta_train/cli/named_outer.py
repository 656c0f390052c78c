"""Outer optimizers as the command line names them: `adamw`, `learned:NAME`, `live`, `population`."""

import functools
import math
from typing import Any

import optax

from learned_optim import LearnedOptimizer
from meta_train.cli import named_optimizer
from meta_train.outer import safeguards
from meta_train.outer import self_training
from meta_train.outer.search.base import SearchStrategy

FORMS = "adamw[:RATE], learned:NAME, live or population[:MEMBERS]"
_RATE, _MEMBERS = 3e-3, 10


def check(name: str, *, step_scale: float | None = None, **bounds: Any) -> None:
    """Checks the arguments of `build` that do not depend on the recipe, without touching a JAX device.

    A run of several processes is checked this way before its processes start.

    Raises:
      ValueError: as `build` does.

    Example:
      >>> check("adamw:0.003", max_step=0.1)
    """
    kind, option = _parse(name, step_scale)
    if kind == "learned":
        named_optimizer.load(option, ())
    safeguards.safeguarded(optax.identity(), **bounds)


def build(
    name: str, optimizer: LearnedOptimizer | None, num_steps: int, *, step_scale: float | None = None, **bounds: Any
) -> optax.GradientTransformation | SearchStrategy:
    """Builds the outer optimizer that a name stands for.

    Args:
      name: `adamw`, with warm-up and cosine decay from the learning rate `:RATE`, by default .003; `learned:NAME`, a
        released optimizer or a .safetensors file; `live`, theta trains itself; `population`, ten or `:MEMBERS` random
        initializations train each other.
      optimizer: the architecture that is meta-trained; None where theta is something else, which cannot train itself.
      num_steps: outer steps of the run.
      step_scale: a factor on the steps of a learned optimizer; see `self_training.frozen`.
      **bounds: arguments of `safeguards.safeguarded`, each None for no such safeguard. What is not finite never makes
        a step.

    Raises:
      ValueError: if the name has another form, what it names does not exist, or theta cannot train itself.

    Example:
      >>> import learned_optim
      >>> build("population:4", learned_optim.mlp((4,)), 100).num_candidates
      4
    """
    guard = functools.partial(safeguards.safeguarded, **bounds)
    kind, option = _parse(name, step_scale)
    if kind == "adamw":
        rate = _number(name, option, float, _RATE)
        return guard(optax.adamw(optax.warmup_cosine_decay_schedule(0.0, rate, min(20, num_steps // 10), num_steps)))
    if kind == "learned":
        return guard(named_optimizer.load(option, [num_steps], step_scale=step_scale)(num_steps))
    if optimizer is None:
        raise ValueError(
            f"{name!r} lets optimizers train each other, and this recipe makes none: give adamw or learned:NAME."
        )
    if kind == "live":
        return guard(self_training.live(optimizer, num_steps=num_steps, step_scale=step_scale))
    members = _number(name, option, int, _MEMBERS)
    return self_training.population(
        optimizer, num_members=members, num_steps=num_steps, step_scale=step_scale, safeguard=guard
    )


def _parse(name, step_scale):
    """The kind of outer optimizer and what stands behind the colon; both make sense."""
    kind, _, option = name.partition(":")
    if kind == "adamw" and step_scale is not None:
        raise ValueError(f"step_scale is for learned outer optimizers, got {name!r}: give its rate, as in adamw:0.003.")
    if kind == "adamw":
        _number(name, option, float, _RATE)
    elif kind == "population":
        _number(name, option, int, _MEMBERS)
    elif not (name == "live" or (kind == "learned" and option)):
        raise ValueError(f"the outer optimizer must be {FORMS}, got {name!r}.")
    return kind, option


def _number(name, option, kind, default):
    try:
        number = kind(option) if option else default
    except ValueError:
        number = 0
    if not 0 < number < math.inf:
        raise ValueError(f"the outer optimizer must be {FORMS}, with a positive number, got {name!r}.")
    return number
