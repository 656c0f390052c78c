"""Recipes: one small Python file for each released optimizer, for the demo, and for a few things other than optimizers.

A recipe file defines `recipe(num_steps=…, seed=…) -> Recipe`. `python -m meta_train train NAME_OR_FILE` runs it.
"""

import ast
import importlib
import inspect
import os
import pathlib
import pkgutil
from typing import Any
from typing import NamedTuple

import jax
import numpy as np
import optax

from learned_optim import LearnedOptimizer
from learned_optim import nearest
from meta_train.estimators.base import Estimator
from meta_train.host import user_code
from meta_train.host.counted import counted
from meta_train.outer.search import SearchStrategy
from meta_train.training.fit import FitResult
from meta_train.training.fit import fit


class Recipe(NamedTuple):
    """All that `fit` needs to make an optimizer, or another theta.

    Fields:
      optimizer: the architecture; None where theta is something else, such as data or a loss.
      theta: its initial meta-parameters.
      estimators: one per task.
      outer_optimizer: updates theta, or searches for it.
      num_steps: outer steps.
      seed: seed of all random draws.
      clip_norm: the meta-gradient's largest global norm, or None.
      share: the result is `initial + share * (final - initial)` of theta. Part of what is learned on a few tasks holds
        for these tasks only, and a share below 1 keeps more of what holds for others, as in Wortsman et al. 2022
        (https://arxiv.org/abs/2109.01903).
      program_per_task: as of `fit`.
    """

    optimizer: LearnedOptimizer | None
    theta: Any
    estimators: tuple[Estimator, ...]
    outer_optimizer: optax.GradientTransformation | SearchStrategy
    num_steps: int
    seed: int
    clip_norm: float | None = 1.0
    share: float = 1.0
    program_per_task: bool = False


def names() -> tuple[str, ...]:
    """Names of the recipes that come with the package.

    Example:
      >>> "demo" in names()
      True
    """
    return tuple(descriptions())


def descriptions() -> dict[str, str]:
    """A line of text for each recipe of the package, read from its file without running it.

    Example:
      >>> descriptions()["prodigy_residual_schedule_v1"]
      'Prodigy with a learned schedule and mix, 26 weights, on ten families; 400 outer steps.'
    """
    modules = [module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg]
    paths = {name: pathlib.Path(__path__[0]) / f"{name}.py" for name in modules}
    found = {name: _describe(path) for name, path in sorted(paths.items())}
    return {name: text for name, text in found.items() if text is not None}


def check(name_or_file: str) -> None:
    """Raises a ValueError that lists the recipes, unless there is a recipe of that name, or such a file."""
    if name_or_file in names():
        return
    path = pathlib.Path(name_or_file)
    if path.suffix == ".py":
        if not path.is_file():
            raise ValueError(f"there is no recipe file {name_or_file}.")
        return
    file = f"{name_or_file}.py"
    hint = f"Did you mean {file!r}? " if pathlib.Path(file).is_file() else nearest.hint(name_or_file, names())
    raise ValueError(
        f"there is no recipe {name_or_file!r}. {hint}Choose from {', '.join(names())}, or give a file ending .py."
    )


def get(name_or_file: str, *, num_steps: int | None = None, seed: int | None = None) -> Recipe:
    """Builds a recipe by name, or from a Python file.

    Args:
      name_or_file: a name from `names()`, or a path that ends with `.py`.
      num_steps: outer steps; None takes the recipe's.
      seed: None takes the recipe's.

    Raises:
      ValueError: if there is no such recipe, the file defines no function `recipe`, or that one returns something else.
      Exception: what the file itself raises.

    Example:
      >>> get("demo", num_steps=10).num_steps
      10
    """
    check(name_or_file)
    module = _load(name_or_file)
    given = {key: value for key, value in (("num_steps", num_steps), ("seed", seed)) if value is not None}
    rule = f"{name_or_file} must define a function recipe(num_steps=…, seed=…) that returns a Recipe"
    if not callable(getattr(module, "recipe", None)):
        raise ValueError(f"{rule}, and defines none.")
    try:
        inspect.signature(module.recipe).bind(**given)
    except TypeError as error:
        raise ValueError(f"{rule}, but it cannot be called with {', '.join(given) or 'nothing'}: {error}.") from error
    made = module.recipe(**given)
    if not isinstance(made, Recipe):
        raise ValueError(f"{rule}, and it returned {type(made).__name__}.")
    return made


def run(
    recipe: Recipe,
    *,
    run_dir: str | os.PathLike[str],
    resume: bool = False,
    tensorboard: bool = False,
    progress: bool = True,
) -> FitResult:
    """Meta-trains a recipe with `fit`, keeping the run's files in `run_dir`, where `resume` finds them.

    Args:
      recipe: what to train.
      run_dir, resume, tensorboard, progress: as of `fit`.

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
        progress=progress,
        program_per_task=recipe.program_per_task,
    )
    theta = optax.incremental_update(result.theta, recipe.theta, recipe.share)
    return result._replace(theta=jax.tree.map(np.asarray, theta))


def _load(name_or_file):
    if name_or_file in names():
        return importlib.import_module(f"{__name__}.{name_or_file}")
    return user_code.load(name_or_file, "recipe")


def _describe(path):
    """The first sentence of a file and the outer steps that it makes by default; None if it defines no recipe."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "recipe"]
    if not functions:
        return None
    first = (ast.get_docstring(tree) or "").partition("\n\n")[0].partition("\n")[0]
    text = first.rpartition("`: ")[2].rstrip(".")  # without the name, which stands before it
    arguments = functions[-1].args
    values = arguments.defaults
    defaults = dict(zip([each.arg for each in arguments.args][-len(values) :], values, strict=True)) if values else {}
    num_steps = defaults.get("num_steps")
    if isinstance(num_steps, ast.Constant) and isinstance(num_steps.value, int):
        text += f"; {counted(num_steps.value, 'outer step')}"
    return f"{text[:1].upper()}{text[1:]}."
