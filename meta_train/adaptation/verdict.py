"""The verdict: default, adapted optimizer and tuned rivals on seeds and held-out data that nothing was chosen by."""

from collections.abc import Sequence
import math
import os
from typing import Any
from typing import NamedTuple

import numpy as np

from learned_optim import LearnedOptimizer
from meta_train.adaptation.journal import Journal
from meta_train.adaptation.objective import HELD_OUT
from meta_train.adaptation.objective import Space
from meta_train.adaptation.objective import log_losses
from meta_train.adaptation.plan import Size
from meta_train.adaptation.trainings import Trainings
from meta_train.evaluation import kept
from meta_train.evaluation import lanes
from meta_train.evaluation import protocol
from meta_train.evaluation import targets
from meta_train.evaluation import timing
from meta_train.evaluation.evaluate import Curves
from meta_train.evaluation.evaluate import Result
from meta_train.host import parallel
from meta_train.host.cache_folder import cache_folder
from meta_train.host.progress import TellFn
from meta_train.tasks.base import Task

DEFAULT, ADAPTED = "default", "adapted"
# One-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom.
_T = (6.31, 2.92, 2.35, 2.13, 2.02, 1.94, 1.89)


class Gain(NamedTuple):
    """The adapted optimizer beside the default.

    Fields:
      change: mean change of the log of the final loss.
      error: standard error of that.
      sure: whether the loss is lower, by a one-sided t test at 95 %.
      target: the loss that the default ends at, the median over the seeds.
      default_steps, adapted_steps: median steps to the target; infinite if it is not reached.
      default_told_steps, adapted_told_steps: the fewest steps that each can be told so that it ends at the default's
        final loss, by interpolation; infinite if it takes more than all. The least rung is a bound.
    """

    change: float
    error: float
    sure: bool
    target: float
    default_steps: float
    adapted_steps: float
    default_told_steps: float
    adapted_told_steps: float

    @property
    def speedup(self) -> float:
        """How many times as many steps the default must be told to end at its final loss; 0 if the adapted never does.

        Where a model overfits, the default is there with fewer than all steps.
        """
        finite = math.isfinite(self.adapted_told_steps)
        return self.default_told_steps / self.adapted_told_steps if finite else 0.0

    @property
    def speedup_on_the_way(self) -> float:
        """How many times as many steps of a whole training the default makes until it first is at its final loss."""
        return self.default_steps / self.adapted_steps if math.isfinite(self.adapted_steps) else 0.0


class Verdict(NamedTuple):
    """All that was measured for the verdict.

    Fields:
      results: default, adapted, then the rivals.
      gain: the adapted optimizer beside the default.
      steps: median steps of each result to the default's final loss, infinite if that is not reached.
      step_milliseconds: of each result, NaN where it was not measured.
    """

    results: list[Result]
    gain: Gain
    steps: list[float]
    step_milliseconds: list[float]


def rivals(
    task: Task,
    names: Sequence[str],
    num_steps: int,
    size: Size,
    *,
    halves: bool,
    folder: str | os.PathLike[str] | None,
    progress: TellFn,
) -> list[Result]:
    """Results of tuned baselines, each on a device of its own.

    Args:
      task: with all of its held-out data.
      names: of the baselines.
      num_steps: of the trainings.
      size: how far to tune.
      halves: as of `protocol.judge`.
      folder: keeps them, so that a run that goes on finds them; None: where other comparisons are kept.
      progress: called with a line of text before each piece of work.
    """

    def work(name, stop_here):
        def tell(line):
            stop_here()
            progress(line)

        judged = protocol.judge(
            task,
            {},
            horizons=(num_steps,),
            num_seeds=size.num_seeds,
            baselines=(name,),
            pacemakers=(),
            halves=halves,
            learning_rates=size.learning_rates,
            tuning_seeds=size.tuning_seeds,
            cache=cache_folder() / "evaluations" if folder is None else folder,
            progress=tell,
        )
        return judged[num_steps].baselines

    found = dict(parallel.over_devices(work, list(names)))
    return [result for name in names for result in found[name]]


def own_results(
    trainings: Trainings,
    space: Space,
    point: np.ndarray,
    num_seeds: int,
    data: Any,
    marks: Sequence[int],
    *,
    folder: str | os.PathLike[str] | None = None,
) -> list[Result]:
    """Results of the default and the adapted optimizer.

    Args:
      trainings: the programs.
      space, point: the adapted optimizer.
      num_seeds: runs of each.
      data: of the task.
      marks: where held-out metrics are taken; the last one is the end.
      folder: keeps the trainings; None keeps nothing.
    """
    thetas = np.repeat(space.theta(np.stack([np.zeros_like(point), point])), num_seeds, axis=0)
    keys = lanes.keys(num_seeds, lanes.REPORT)[np.tile(np.arange(num_seeds), 2)]

    def train():
        made = trainings.run(thetas, keys, marks, data=data)
        return Curves(np.asarray(marks), made.losses, made.held_out, math.nan, 0).to_arrays()

    make_name = lambda: kept.name("own", np.round(thetas, 6).tobytes(), num_seeds, tuple(marks))
    both, found = Curves.from_arrays(kept.remember(folder, make_name, train)), []
    for i, name in enumerate((DEFAULT, ADAPTED)):
        rows = slice(i * num_seeds, (i + 1) * num_seeds)
        held_out = {metric: values[:, rows] for metric, values in both.held_out.items()}
        curves = both._replace(losses=both.losses[rows], held_out=held_out)
        found.append(curves.until(marks[-1], name, along=marks if len(marks) > 1 else ()))
    return found


def told_fewer(
    trainings: Trainings,
    space: Space,
    point: np.ndarray,
    num_steps: int,
    num_seeds: int,
    data: Any,
    *,
    rungs: Sequence[float],
    objective: str,
    scale: float,
    journal: Journal,
) -> dict[int, tuple[float, float]]:
    """Trainings that are told fewer steps, and make no more. Their results are kept in the journal.

    Returns:
      For each number of steps the mean log of the final loss of the default and of the adapted optimizer.
    """
    thetas = np.repeat(space.theta(np.stack([np.zeros_like(point), point])), num_seeds, axis=0)
    keys = lanes.keys(num_seeds, lanes.REPORT)[np.tile(np.arange(num_seeds), 2)]

    def train(steps):
        made = trainings.run(thetas, keys, (steps,), data=data, held_out=objective == HELD_OUT)
        final = made.held_out["loss"][-1] if objective == HELD_OUT else lanes.final_losses(made.losses)
        return log_losses(final, scale).reshape(2, num_seeds).mean(axis=1).tolist()

    told = sorted({max(1, round(rung * num_steps)) for rung in rungs})
    return {steps: tuple(journal.recall(f"told {steps} steps", lambda steps=steps: train(steps))) for steps in told}


def gain(
    results: Sequence[Result], shorter: dict[int, tuple[float, float]], num_steps: int, *, objective: str, scale: float
) -> tuple[Gain, list[float]]:
    """The adapted optimizer beside the default, and the steps of all results to the default's final loss.

    Args:
      results: default, adapted, then the rivals.
      shorter: what `told_fewer` gave.
      num_steps: of the trainings.
      objective: the loss that counts.
      scale: the initial loss.
    """
    finals = [log_losses(_final(result, objective), scale) for result in results[:2]]
    changes = finals[1] - finals[0]
    number = len(changes)
    error = float(changes.std(ddof=1) / math.sqrt(number)) if number > 1 else 0.0
    change = float(changes.mean())
    sure = change + (_T[min(number - 2, len(_T) - 1)] * error if number > 1 else 0.0) < 0.0
    target = float(np.sort(_final(results[0], objective))[number // 2])
    steps = [float(np.median(targets.first_below(*_curve(result, objective), target))) for result in results]
    means = {**shorter, num_steps: tuple(float(final.mean()) for final in finals)}
    told = [_told_steps({count: both[i] for count, both in means.items()}, means[num_steps][0]) for i in (0, 1)]
    return Gain(change, error, sure, target, *steps[:2], *told), steps


def times(
    task: Task,
    optimizer: LearnedOptimizer,
    theta: Any,
    names: Sequence[str],
    results: Sequence[Result],
    progress: TellFn,
) -> list[float]:
    """Milliseconds of a step of each result, the default and the adapted optimizer alike."""
    contender = {DEFAULT: lambda num_steps: optimizer.transform(theta, num_steps=num_steps)}
    found = timing.time_steps(task, contender, names, progress=progress)
    sources = [DEFAULT if result.optimizer == ADAPTED else result.source for result in results]
    return [1e3 * found[source].step_seconds for source in sources]


def _final(result, objective):
    return result.held_out_losses if objective == HELD_OUT else result.final_losses


def _curve(result, objective):
    """`(marks, losses float64[marks, seeds])`."""
    if objective == HELD_OUT and result.along is None:  # a single mark, the end: a training of one step has no other
        marks, losses = [result.losses.shape[1]], result.held_out_losses[None]
    elif objective == HELD_OUT:
        marks, held_out = result.along
        losses = held_out["loss"]
    else:
        num_steps = result.losses.shape[1]
        width = max(1, num_steps // 10)
        losses = np.lib.stride_tricks.sliding_window_view(result.losses, width, axis=1).mean(axis=-1).T
        marks = np.arange(width, num_steps + 1)
    losses = np.asarray(losses, np.float64)
    return np.asarray(marks, np.float64), np.where(np.isnan(losses), np.inf, losses)


def _told_steps(means, goal):
    """Where the line through `steps -> mean` first is at the goal; infinite if it never is.

    Example:
      >>> _told_steps({50: 1.0, 100: 0.0}, 0.5)
      75.0
    """
    steps = sorted(means)
    marks = np.array(steps, np.float64)
    return float(targets.first_below(marks, np.array([[means[each]] for each in steps]), goal)[0])
