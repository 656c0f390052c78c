"""What is wrong with a model that cannot be adapted to, told before any minutes are spent.

The checks that a task file meets anyway are in `meta_train.tasks.user_checks`; here are those that need a gradient's
values or a few steps of training.
"""

from typing import Any

import jax
import numpy as np

from meta_train.adaptation.probe import Probe
from meta_train.adaptation.trainings import SEARCH
from meta_train.adaptation.trainings import Trainings
from meta_train.evaluation import lanes
from meta_train.tasks.base import Task
from meta_train.tasks.user_checks import RuleError
from meta_train.tasks.user_checks import place

FEW_STEPS = 20  # over which the optimizer must keep the loss finite


def check_gradient(task: Task, found: Probe) -> list[str]:
    """Checks that the loss depends on the parameters.

    Args:
      task: the model.
      found: by `probe.probe`.

    Returns:
      A line of text for each parameter whose gradient is zero, which is no error: it may be frozen on purpose.

    Raises:
      RuleError: if all gradients are zero.

    Example:
      >>> from meta_train import tasks
      >>> from meta_train.adaptation.probe import probe
      >>> task = tasks.get("quadratic")
      >>> check_gradient(task, probe(task))
      []
    """
    leaves = jax.tree.leaves_with_path(found.largest)
    zero = [place(path) for path, sizes in leaves if not np.any(np.asarray(sizes) != 0.0)]
    if len(zero) == len(leaves):
        raise RuleError(
            f"{task.name}: the gradient of loss must not be zero, but it is, for all parameters. Does loss use params? "
            "argmax, round, comparisons and jax.lax.stop_gradient have no gradient: use a smooth loss, such as a "
            "cross-entropy in place of a share of errors."
        )
    return [f"the gradient of params{where} is zero: the loss does not depend on it" for where in zero]


def check_first_steps(
    task: Task,
    trainings: Trainings,
    theta: np.ndarray,
    num_steps: int,
    data: Any,
    *,
    optimizer: str = "the default optimizer",
) -> None:
    """Checks that an optimizer keeps the loss finite over the first steps, and positive.

    Args:
      task: the model.
      trainings: the programs.
      theta: of the optimizer, raveled.
      num_steps: of the trainings.
      data: of the task.
      optimizer: what to call it in errors.

    Raises:
      RuleError: if the loss becomes NaN or infinite, or is below zero.
    """
    steps = min(FEW_STEPS, num_steps)
    keys = lanes.keys(trainings.parallel, SEARCH)
    made = trainings.run(np.stack([theta] * trainings.parallel), keys, (steps,), data=data)
    bad = ~np.isfinite(made.losses)
    if bad.any():
        seeds, first = int(bad.any(axis=1).sum()), int(np.flatnonzero(bad.any(axis=0))[0])
        when = "the initial parameters" if first == 0 else f"step {first}"
        raise RuleError(
            f"{task.name}: the loss must stay finite, but it is {made.losses[bad][0]} from {when} on, with "
            f"{optimizer}, on {seeds} of {len(bad)} seeds. Look for logarithms and divisions that come near zero as "
            "the parameters change, for NaN in some batches of the data, and for exp of large numbers."
        )
    if (made.losses < 0.0).any():
        raise RuleError(
            f"{task.name}: the loss must be positive, got {made.losses.min():g} within {steps} steps: optimizers are "
            "compared by its logarithm. Add a constant, which changes no gradient."
        )
    evaluated = made.held_out["loss"]
    if not np.isfinite(evaluated).all():
        raise RuleError(
            f"{task.name}: the held-out loss must be finite, got {evaluated[~np.isfinite(evaluated)][0]} after "
            f"{steps} steps, while the training loss is finite. Look for NaN in what held_out(key) returns."
        )
