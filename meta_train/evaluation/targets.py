"""Time to target: how soon each optimizer is as good as the best tuned baseline ends, and AlgoPerf's score of it.

The target of a task is the lowest final loss of a tuned baseline, as a median over seeds, so that this baseline reaches
it with more than half of its seeds. There is one of the training loss, and where held-out losses were taken along the
way, one of the held-out loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple

import numpy as np

from meta_train.evaluation import scores
from meta_train.evaluation.evaluate import Result
from meta_train.evaluation.protocol import Judgement
from meta_train.evaluation.timing import Timing
from meta_train.host.counted import counted

if TYPE_CHECKING:
    from jaxtyping import Float

SECONDS = "seconds"
STEPS = "steps"


class Standing(NamedTuple):
    """One optimizer over all tasks."""

    optimizer: str
    score: float  # AlgoPerf's, of median times
    low: float  # 95 % interval by a bootstrap over seeds within tasks
    high: float
    times: dict[str, float]  # for each task the median steps or seconds to the target, infinite if it is not reached


class Race(NamedTuple):
    """All optimizers on the way to one kind of target."""

    loss: str  # "training loss" or "held-out loss"
    unit: str  # `STEPS` or `SECONDS`
    targets: dict[str, float]  # for each task
    standings: tuple[Standing, ...]  # the judged optimizers, then the baselines


def races(
    judgements: Mapping[str, Judgement], timings: Mapping[str, Mapping[str, Timing]] | None = None
) -> tuple[Race, ...]:
    """Ranks all optimizers by their times to the targets.

    Args:
      judgements: for each task, what `protocol.judge` gave for one horizon; all with the same optimizers.
      timings: for each task what `timing.time_steps` gave; None: only steps count.

    Returns:
      A race for each kind of loss and unit. None without baselines.
    """
    judged = list(judgements.values())
    if not judged[0].baselines:
        return ()
    kinds = {"training loss": _training}
    if all(result.along is not None for each in judged for result in (*each.contenders, *each.baselines)):
        kinds["held-out loss"] = _held_out
    found = []
    for loss, curve in kinds.items():
        targets, steps = {}, []
        for task, each in judgements.items():
            curves = [curve(result) for result in (*each.contenders, *each.baselines)]
            targets[task] = _target(each, curves)
            steps.append([first_below(*one, targets[task]) for one in curves])
        times = np.moveaxis(np.array(steps), 0, 1)  # [optimizers, tasks, seeds]
        found.append(_race(loss, STEPS, targets, times, judged[0]))
        if timings is not None:
            seconds = [
                [timings[task][result.source].step_seconds for result in (*each.contenders, *each.baselines)]
                for task, each in judgements.items()
            ]
            found.append(_race(loss, SECONDS, targets, times * np.array(seconds).T[..., None], judged[0]))
    return tuple(found)


def first_below(
    marks: Float[np.ndarray, " marks"], losses: Float[np.ndarray, "marks seeds"], target: float
) -> Float[np.ndarray, " seeds"]:
    """The first number of steps at which a loss is at or below the target, on straight lines between the marks.

    Args:
      marks: increasing numbers of steps.
      losses: the losses there.
      target: the loss to reach.

    Returns:
      Numbers of steps, infinite where the target is not reached.

    Example:
      >>> first_below(np.array([10.0, 20.0]), np.array([[3.0, 1.0, 9.0], [1.0, 0.5, 8.0]]), 2.0)
      array([15., 10., inf])
    """
    found = np.full(losses.shape[1], np.inf)
    for seed, curve in enumerate(losses.T):
        reached = np.flatnonzero(np.isfinite(curve) & (curve <= target))
        if len(reached) == 0:
            continue
        place = reached[0]
        found[seed] = marks[place]
        if place > 0 and np.isfinite(curve[place - 1]):
            share = (curve[place - 1] - target) / (curve[place - 1] - curve[place])
            found[seed] = marks[place - 1] + share * (marks[place] - marks[place - 1])
    return found


def as_text(found: tuple[Race, ...]) -> str:
    """A table of scores, of one task a table of times: a line for each optimizer, a column for each race.

    It is empty without races.
    """
    if not found:
        return ""
    single = len(found[0].targets) == 1
    title = "Time to target" if single else f"AlgoPerf's score, {counted(len(found[0].targets), 'task')}"
    goals = [f" {next(iter(race.targets.values())):.3g}" if single else "" for race in found]
    lines = [[title, *(f"{race.unit} to {race.loss}{goal}" for race, goal in zip(found, goals, strict=True))]]
    cell = _median_time if single else _score_with_interval
    for number, standing in enumerate(found[0].standings):
        lines.append([f"  {standing.optimizer}", *(cell(race.standings[number]) for race in found)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def as_json(found: tuple[Race, ...]) -> list[dict[str, Any]]:
    """The races as plain JSON values; null for a target that is not reached."""
    finite = lambda values: {task: value if np.isfinite(value) else None for task, value in values.items()}
    return [
        {
            **race._asdict(),
            "targets": finite(race.targets),
            "standings": [{**one._asdict(), "times": finite(one.times)} for one in race.standings],
        }
        for race in found
    ]


def _score_with_interval(standing):
    return f"{standing.score:.2f} ({standing.low:.2f} to {standing.high:.2f})"


def _median_time(standing):
    (time,) = standing.times.values()
    return f"{time:,.4g}" if np.isfinite(time) else "never"


def _training(result: Result):
    """`(marks, losses float64[marks, seeds])`: means over a tenth of the whole run, at the last step of each."""
    num_steps = result.losses.shape[1]
    width = max(1, num_steps // 10)
    means = np.lib.stride_tricks.sliding_window_view(result.losses, width, axis=1).mean(axis=-1, dtype=np.float64)
    return np.arange(width, num_steps + 1, dtype=np.float64), _or_infinite(means.T)


def _held_out(result: Result):
    if result.along is None:
        raise ValueError(f"held-out losses must be taken along the way, got none of {result.optimizer}. Use halves.")
    marks, held_out = result.along
    return np.asarray(marks, np.float64), _or_infinite(held_out["loss"].astype(np.float64))


def _or_infinite(values):
    return np.where(np.isnan(values), np.inf, values)


def _target(judged, curves):
    """The lowest median final loss of a tuned baseline, or of any if none is tuned. Of two medians, the higher one."""
    finals = [np.sort(losses[-1])[losses.shape[1] // 2] for _, losses in curves[len(judged.contenders) :]]
    tuned = [final for final, one in zip(finals, judged.baselines, strict=True) if one.learning_rate is not None]
    return float(min(tuned or finals))


def _race(loss, unit, targets, times, judged):
    found, ends = scores.score_of_medians(times), scores.score_intervals(times)
    medians = np.median(times, axis=-1)
    standings = [
        Standing(
            result.plain_name,
            float(found[i]),
            float(ends[0, i]),
            float(ends[1, i]),
            dict(zip(targets, map(float, medians[i]), strict=True)),
        )
        for i, result in enumerate((*judged.contenders, *judged.baselines))
    ]
    return Race(loss, unit, targets, tuple(standings))
