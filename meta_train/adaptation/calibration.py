"""Measures how many trainings side by side make the most steps a second, and how long steps take."""

from collections.abc import Callable
from typing import Any

import jax

from learned_optim import LearnedOptimizer
from meta_train.adaptation import trainings
from meta_train.adaptation.journal import Journal
from meta_train.adaptation.plan import Pace
from meta_train.adaptation.trainings import Trainings
from meta_train.evaluation.bench import NUM_MARKS
from meta_train.evaluation.side_by_side import MOST_ON_ACCELERATOR
from meta_train.evaluation.side_by_side import MOST_PARAMETERS
from meta_train.evaluation.side_by_side import convolves
from meta_train.host import parallel
from meta_train.tasks.base import Task
from meta_train.tasks.base import num_parameters

_MOST_ON_CPU = 4_000_000  # parameters of all trainings on a device together
_FEW_MINUTES = 2.0  # with fewer, a single width is compiled
_MOST_TO_COMPILE = 0.05  # of the minutes for a program; with more, there is no third width


def widths(number: int, backend: str, minutes: float, *, convolving: bool = False) -> tuple[int, ...]:
    """Numbers of trainings side by side that are worth a try, the likeliest first.

    Args:
      number: parameters of the model.
      backend: JAX's.
      minutes: of the adaptation.
      convolving: whether the model has convolutions, which are slow side by side on a CPU.

    Example:
      >>> widths(2_000, "cpu", 10.0), widths(500_000, "cpu", 10.0)
      ((16, 4), (1, 4))
    """
    if backend == "cpu":
        tried = (1, 4) if convolving or number > MOST_PARAMETERS else (16, 4)
        most = _MOST_ON_CPU
    else:
        tried, most = (64, 16), MOST_ON_ACCELERATOR
    fitting = tuple(width for width in tried if width * number <= most) or (1,)
    return fitting[:1] if minutes < _FEW_MINUTES else fitting


def calibrate(
    task: Task,
    optimizer: LearnedOptimizer,
    theta: Any,
    num_steps: int,
    journal: Journal,
    minutes: float,
    check: Callable[[Trainings], None],
) -> tuple[Pace, Trainings]:
    """Measures, and builds the programs of the width that is fastest.

    Args:
      task, optimizer, theta: what is trained with what.
      num_steps: the most steps of a training.
      journal: keeps the measurements.
      minutes: of the adaptation.
      check: called with the programs before the measurements are kept; it compiles them on all devices.

    Returns:
      `(pace, trainings)`. If the journal has a pace, it is that of the machine where the run began.
    """
    devices, built = len(jax.devices()), {}

    def build(width):
        if width not in built:
            size = dict(width=width, size=num_steps, num_marks=NUM_MARKS)
            built[width] = trainings.build(task, optimizer, theta, **size)
        return built[width]

    def measure(width, stop_here):
        stop_here()
        return build(width).pace()

    def measure_all():
        tried = widths(num_parameters(task), jax.default_backend(), minutes, convolving=convolves(task))
        found = dict(parallel.over_devices(measure, tried))
        dear = max(seconds for seconds, _ in found.values()) > _MOST_TO_COMPILE * 60.0 * minutes
        if min(found, key=lambda width: found[width][1]) == 4 and 1 not in found and not dear:  # one alone may do
            found |= dict(parallel.over_devices(measure, [1]))
        width = min(found, key=lambda width: found[width][1])
        check(build(width))
        return {"width": width, "devices": devices, "tried": [[each, *found[each]] for each in found]}

    kept = journal.recall("pace", measure_all)
    compiled, step = next(rest for width, *rest in kept["tried"] if width == kept["width"])
    return Pace(compiled, step, kept["devices"]), build(kept["width"])
