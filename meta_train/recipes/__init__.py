"""Recipes: one small Python file for each released optimizer, and whatever else is worth repeating.

A recipe file defines `recipe(num_steps=…, seed=…) -> Recipe`. `python -m meta_train train NAME_OR_FILE` runs it.
"""

import difflib
import importlib
import importlib.util
import os
import pathlib
import pkgutil
from typing import Any
from typing import NamedTuple

import jax
import numpy as np
import optax

from learned_optim import LearnedOptimizer
from meta_train.estimators.base import Estimator
from meta_train.train import FitResult
from meta_train.train import fit


class Recipe(NamedTuple):
    """All that `fit` needs to make an optimizer.

    Fields:
      optimizer: the architecture.
      theta: its initial meta-parameters.
      estimators: one per task.
      outer_optimizer: updates theta.
      num_steps: outer steps.
      seed: of everything random.
      clip_norm: the meta-gradient's largest global norm, or None.
      share: how far the result goes from the initial theta, 0, to the theta that meta-training ended at, 1. What was
        learned on a few tasks in part holds for those alone, and going part of the way keeps more of what holds for
        others, as in Wortsman et al. 2022 (https://arxiv.org/abs/2109.01903).
    """

    optimizer: LearnedOptimizer
    theta: Any
    estimators: tuple[Estimator, ...]
    outer_optimizer: optax.GradientTransformation
    num_steps: int
    seed: int
    clip_norm: float | None = 1.0
    share: float = 1.0


def names() -> tuple[str, ...]:
    """Names of the recipes that come with the package.

    Example:
      >>> "demo" in names()
      True
    """
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def get(name_or_file: str, *, num_steps: int | None = None, seed: int | None = None) -> Recipe:
    """Builds a recipe by name, or from a Python file.

    Args:
      name_or_file: a name from `names()`, or a path that ends with `.py`.
      num_steps: outer steps; None takes the recipe's.
      seed: None takes the recipe's.

    Raises:
      ValueError: if there is no such recipe, or the file defines no function `recipe`.

    Example:
      >>> get("demo", num_steps=10).num_steps
      10
    """
    module = _load(name_or_file)
    if not callable(getattr(module, "recipe", None)):
        raise ValueError(f"{name_or_file} must define a function recipe(num_steps=…, seed=…) that returns a Recipe.")
    given = {"num_steps": num_steps, "seed": seed}
    return module.recipe(**{key: value for key, value in given.items() if value is not None})


def run(recipe: Recipe, *, run_dir: str | os.PathLike, resume: bool = False, tensorboard: bool = False) -> FitResult:
    """Meta-trains a recipe with `fit`, keeping the run's files in `run_dir`, where `resume` finds them.

    Raises:
      ValueError: if the recipe's share is not above 0 and at most 1, and what `fit` raises.
    """
    if not 0.0 < recipe.share <= 1.0:
        raise ValueError(f"a recipe's share must be above 0 and at most 1, got {recipe.share}.")
    result = fit(
        recipe.estimators,
        recipe.theta,
        recipe.outer_optimizer,
        num_steps=recipe.num_steps,
        seed=recipe.seed,
        clip_norm=recipe.clip_norm,
        run_dir=run_dir,
        resume=resume,
        tensorboard=tensorboard,
    )
    theta = optax.incremental_update(result.theta, recipe.theta, recipe.share)
    return result._replace(theta=jax.tree.map(np.asarray, theta))


def _load(name_or_file):
    if name_or_file.endswith(".py"):
        path = pathlib.Path(name_or_file)
        if not path.is_file():
            raise ValueError(f"there is no recipe file {name_or_file}.")
        spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    if name_or_file not in names():
        near = difflib.get_close_matches(name_or_file, names(), n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"there is no recipe {name_or_file!r}. {hint}Choose from {', '.join(names())}, or give a file ending .py."
        )
    return importlib.import_module(f"{__name__}.{name_or_file}")
