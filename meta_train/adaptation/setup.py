"""What is adapted to what: the model, its data in parts, and the optimizer to start from."""

from collections.abc import Sequence
import math
from typing import Any
from typing import NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

import learned_optim
from learned_optim import LearnedOptimizer
from meta_train.adaptation import constants
from meta_train.adaptation.objective import HELD_OUT
from meta_train.adaptation.objective import OBJECTIVES
from meta_train.adaptation.objective import TRAINING
from meta_train.adaptation.objective import Space
from meta_train.evaluation import baselines
from meta_train.evaluation import halves
from meta_train.tasks.base import Task
from meta_train.tasks.user_model import has_held_out


class Setup(NamedTuple):
    """What all phases of an adaptation share.

    Fields:
      task: the model. Its held-out data are those for the verdict.
      whole: the same with all held-out data, of which rivals take one half for their choice.
      optimizer, theta: what the adaptation starts from.
      space: the coordinates of the search.
      search_data: the data for search and choice, with the other half of those held out.
      objective: the loss that counts.
      scale: the loss at the initial parameters.
      num_steps: of the trainings that the optimizer is made for.
      halved: whether there are held-out data.
      rivals: names of the baselines in the verdict.
    """

    task: Task
    whole: Task
    optimizer: LearnedOptimizer
    theta: Any
    space: Space
    search_data: Any
    objective: str
    scale: float
    num_steps: int
    halved: bool
    rivals: tuple[str, ...]

    def raveled(self, point: np.ndarray) -> Any:
        """The theta of a point of the search."""
        _, unravel = jax.flatten_util.ravel_pytree(self.theta)
        return jax.tree.map(np.asarray, unravel(jnp.asarray(self.space.theta(point), jnp.float32)))


def check(minutes: float, num_steps: int, objective: str | None, rivals: Sequence[str]) -> None:
    """Checks the arguments of `adapt` that need no task.

    Raises:
      ValueError: if one is out of range.

    Example:
      >>> check(10.0, 1000, "training", ["muon"])
    """
    if not (math.isfinite(minutes) and minutes > 0):
        raise ValueError(f"minutes must be positive, got {minutes}.")
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}.")
    if objective is not None and objective not in OBJECTIVES:
        raise ValueError(f"objective must be {' or '.join(map(repr, OBJECTIVES))}, got {objective!r}.")
    baselines.check(rivals)


def set_up(task: Task, num_steps: int, objective: str | None, rivals: tuple[str, ...]) -> Setup:
    """Splits the held-out data, and chooses the objective if none is given.

    Raises:
      ValueError: if the objective needs held-out data, and there are none.

    Example:
      >>> from meta_train import tasks
      >>> set_up(tasks.get("digits-softmax"), 100, None, ()).objective
      'held-out'
    """
    own = has_held_out(task)
    if objective == HELD_OUT and not own:
        raise ValueError(
            f"{task.name} has no held-out data for the objective 'held-out': define held_out(key), or take 'training'."
        )
    optimizer, theta = learned_optim.load_pretrained()
    search_data, report_data = halves.split(task.data) if own else (task.data, task.data)
    flat, _ = jax.flatten_util.ravel_pytree(theta)
    return Setup(
        task._replace(data=report_data),
        task,
        optimizer,
        theta,
        Space(np.asarray(flat, np.float64), constants.moves(theta)),
        search_data,
        objective or (HELD_OUT if own else TRAINING),
        float(task.scale),
        num_steps,
        own,
        rivals,
    )
