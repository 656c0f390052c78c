"""What is tuned for what: the model, its data in parts, and the schedules."""

import math
from typing import Any
from typing import NamedTuple

from meta_train.adaptation.objective import HELD_OUT
from meta_train.adaptation.objective import OBJECTIVES
from meta_train.adaptation.objective import TRAINING
from meta_train.evaluation import halves
from meta_train.tasks.base import Task
from meta_train.tasks.user_model import has_held_out
from meta_train.tuning import descent


class Setup(NamedTuple):
    """What all phases of a tuning share."""

    task: Task  # its held-out data are those for the verdict
    whole: Task
    search_data: Any
    objective: str
    num_steps: int
    num_blocks: int
    way: str


def set_up(task: Task, num_steps: int, num_blocks: int, objective: str | None, way: str) -> Setup:
    """Splits the held-out data, and chooses the objective if none is given.

    Raises:
      ValueError: if the objective needs held-out data, and there are none.

    Example:
      >>> from meta_train import tasks
      >>> set_up(tasks.get("digits-softmax"), 100, 10, None, "backprop").objective
      'held-out'
    """
    own = has_held_out(task)
    if objective == HELD_OUT and not own:
        raise ValueError(
            f"{task.name} has no held-out data for the objective 'held-out': define held_out(key), or take 'training'."
        )
    search_data, report_data = halves.split(task.data) if own else (task.data, task.data)
    chosen = objective or (HELD_OUT if own else TRAINING)
    return Setup(task._replace(data=report_data), task, search_data, chosen, num_steps, num_blocks, way)


def check(minutes: float, num_steps: int, num_blocks: int, objective: str | None, way: str) -> None:
    """Checks the arguments of `tune` that need no task.

    Raises:
      ValueError: if one is out of range.

    Example:
      >>> check(10.0, 1000, 10, "training", "backprop")
    """
    if not (math.isfinite(minutes) and minutes > 0):
        raise ValueError(f"minutes must be positive, got {minutes}.")
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}.")
    if not 1 <= num_blocks <= num_steps:
        raise ValueError(f"num_blocks must lie between 1 and the number of steps, {num_steps}, got {num_blocks}.")
    if objective is not None and objective not in OBJECTIVES:
        raise ValueError(f"objective must be 'held-out' or 'training', got {objective!r}.")
    if way not in descent.WAYS:
        raise ValueError(f"way must be {' or '.join(map(repr, descent.WAYS))}, got {way!r}.")
