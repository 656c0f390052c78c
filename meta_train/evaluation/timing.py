"""Seconds of a training step with each optimizer, measured in turns in one process, and seconds to compile it.

All optimizers run a task alone, one seed each. In each round every optimizer makes some steps, so that a machine that
slows down slows all of them alike. The median round counts.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import time
from typing import NamedTuple

import jax
import numpy as np

from meta_train.evaluation import lanes
from meta_train.evaluation import protocol
from meta_train.evaluation.baselines import BASELINES
from meta_train.evaluation.baselines import check
from meta_train.evaluation.protocol import Contender
from meta_train.evaluation.trials import Hyperparameters
from meta_train.host.progress import TellFn
from meta_train.tasks.base import Task

_RATE, _DECAY, _BETA2 = 1e-3, 1e-4, 0.999  # what a step takes does not depend on them
_MAX_STEPS = 256  # of a round
_ROUND_SECONDS = 0.05  # of a round of one optimizer, about, if it has less than the most steps


class Timing(NamedTuple):
    """What an optimizer takes on a task."""

    step_seconds: float  # of a training step: gradient, update, and all between
    compile_seconds: float  # until the first step can be made: tracing and compiling, once for a training


def time_steps(
    task: Task,
    contenders: Mapping[str, Contender],
    baselines: Sequence[str],
    *,
    num_rounds: int = 9,
    progress: TellFn = lambda line: None,
) -> dict[str, Timing]:
    """Measures optimizers on a task. Nothing else should run at the same time.

    Args:
      task: what to train.
      contenders: optimizers by name, as of `protocol.judge`.
      baselines: names from `BASELINES`.
      num_rounds: how many times each optimizer has its turn.
      progress: called with a line of text before each compilation.

    Returns:
      A `Timing` for each optimizer, by its `Result.source`.

    Raises:
      ValueError: if there is no such baseline, or num_rounds is below 1.

    Example:
      >>> import optax
      >>> from meta_train import tasks
      >>> sorted(time_steps(tasks.get("quadratic"), {"sgd": optax.sgd(0.1)}, ["adam-1e-3"], num_rounds=1))
      ['Adam 1e-3', 'sgd']
    """
    if num_rounds < 1:
        raise ValueError(f"num_rounds must be at least 1, got {num_rounds}.")
    check(baselines)
    task = task._replace(data=jax.device_put(task.data))
    starts = lanes.starter(task)
    entries = [protocol.as_baseline(name, each) for name, each in contenders.items()]
    runs, compiled = {}, {}
    for entry in [*entries, *(BASELINES[key] for key in baselines)]:
        progress(f"{task.name}: {entry.name}, compiling for the times of steps")
        point = Hyperparameters(_RATE, _DECAY, 0.0, _BETA2) if entry.by_trials else _RATE
        program = lanes.build(task, entry.make, width=1, size=_MAX_STEPS, starts=starts, like=point)
        began = time.perf_counter()
        program.compile()
        compiled[entry.name] = time.perf_counter() - began
        runs[entry.name] = _runner(program, point)
    steps = {name: _steps_of_a_round(run) for name, run in runs.items()}
    taken = {name: [] for name in runs}
    for _ in range(num_rounds):
        for name, run in runs.items():
            taken[name].append(run(steps[name]) / steps[name])
    return {name: Timing(float(np.median(taken[name])), compiled[name]) for name in runs}


def time_tasks(
    chosen: Sequence[Task],
    contenders: Mapping[str, Contender],
    baselines: Sequence[str],
    *,
    progress: TellFn = lambda line: None,
) -> dict[str, dict[str, Timing]]:
    """What `time_steps` gives for each task by name, one task after the other."""
    return {task.name: time_steps(task, contenders, baselines, progress=progress) for task in chosen}


def as_text(timings: Mapping[str, Timing]) -> str:
    """A table: a line for each optimizer.

    Example:
      >>> print(as_text({"sgd": Timing(step_seconds=0.0125, compile_seconds=3.21)}))
      optimizer  ms a step  seconds to compile
      sgd        12.5       3.2
    """
    rows = [["optimizer", "ms a step", "seconds to compile"]]
    rows += [[name, f"{1e3 * each.step_seconds:.3g}", f"{each.compile_seconds:.1f}"] for name, each in timings.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _runner(program, point):
    """`(steps) -> seconds` that so many steps take."""
    start = jax.block_until_ready(program.begin(lanes.keys(1, lanes.REPORT)))
    values = jax.tree.map(lambda x: np.full(1, x, np.float32), point)

    def run(steps):
        began = time.perf_counter()
        program.train(values, start, (steps,), steps, False)
        return time.perf_counter() - began

    return run


def _steps_of_a_round(run):
    """Doubled until they take long enough. The first run, which also loads the program, does not count."""
    steps = 1
    run(steps)
    while steps < _MAX_STEPS and run(steps) < _ROUND_SECONDS:
        steps *= 2
    return steps
