"""The verdict of an evaluation over many tasks: wins, losses and speedups of one optimizer against each baseline."""

from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import numpy as np

from meta_train.evaluation import scores
from meta_train.evaluation.protocol import PACEMAKERS
from meta_train.evaluation.protocol import Judgement
from meta_train.host.counted import counted


class Against(NamedTuple):
    """One optimizer against one baseline."""

    baseline: str
    won: tuple[str, ...]  # tasks where the mean final training loss is at or below the baseline's
    lost: tuple[str, ...]  # the other tasks
    won_held_out: tuple[str, ...]  # tasks where the mean held-out loss is at or below the baseline's
    won_error: tuple[str, ...]  # tasks where the mean held-out error is at or below the baseline's
    with_error: tuple[str, ...]  # tasks that have an error
    won_best: tuple[str, ...] | None  # tasks where the lowest held-out loss along the way is; None if none was taken
    at_edge: tuple[str, ...] = ()  # tasks where the baseline's tuned rate is at the edge of the grid


class Speedup(NamedTuple):
    """How many times as many steps a tuned baseline needs to reach the optimizer's final losses.

    Each number is cut to the range of `scores.LADDER` before the mean is taken.
    """

    baseline: str
    mean: float  # interquartile mean over tasks and seeds
    low: float  # 95 % interval by a bootstrap over seeds within tasks
    high: float
    cut: scores.Cut  # how many of the numbers are cut


class Verdict(NamedTuple):
    """The summary of an evaluation."""

    optimizer: str
    against: tuple[Against, ...]
    speedups: tuple[Speedup, ...]
    diverged: tuple[str, ...]  # tasks where a seed ended above the loss that it began with


def verdict(judgements: Mapping[str, Judgement], contender: int = 0) -> Verdict:
    """Sums up an evaluation for one of the contenders.

    Args:
      judgements: for each task, what `protocol.judge` gave for one horizon; all with the same contenders and baselines.
      contender: which of the contenders.

    Example:
      >>> import optax
      >>> from meta_train import tasks
      >>> from meta_train.evaluation import protocol
      >>> task = tasks.get("quadratic")
      >>> judged = protocol.judge(task, {"sgd": optax.sgd(0.1)}, horizons=(20,), num_seeds=2, baselines=["adam-1e-3"])
      >>> verdict({"quadratic": judged[20]}).against[0].won
      ('quadratic',)
    """
    first = next(iter(judgements.values()))
    own = {task: judged.contenders[contender] for task, judged in judgements.items()}
    against = []
    for i, baseline in enumerate(first.baselines):
        rivals = {task: judged.baselines[i] for task, judged in judgements.items()}
        won = _won({task: (own[task].final_losses, rivals[task].final_losses) for task in own})
        best = {task: (own[task].best_held_out_losses, rivals[task].best_held_out_losses) for task in own}
        errors = {task: (own[task].errors, rivals[task].errors) for task in own if own[task].errors is not None}
        against.append(
            Against(
                baseline=baseline.plain_name,
                won=won,
                lost=tuple(task for task in own if task not in won),
                won_held_out=_won({task: (own[task].held_out_losses, rivals[task].held_out_losses) for task in own}),
                won_error=_won(errors),
                with_error=tuple(errors),
                won_best=None if first.contenders[contender].along is None else _won(best),
                at_edge=tuple(task for task, rival in rivals.items() if rival.at_edge),
            )
        )
    speedups = []
    for key in (key for key in PACEMAKERS if key in first.speedups):
        values = np.stack([judged.speedups[key][contender] for judged in judgements.values()])  # [tasks, seeds]
        interval = scores.interval(values, scores.interquartile_mean)
        speedups.append(Speedup(key, scores.interquartile_mean(values), *interval, scores.cut(values)))
    diverged = tuple(task for task, result in own.items() if np.any(~(result.final_losses <= result.losses[:, 0])))
    return Verdict(first.contenders[contender].optimizer, tuple(against), tuple(speedups), diverged)


def as_text(found: Verdict, num_tasks: int) -> str:
    """The verdict as lines of text."""
    lines = [f"{found.optimizer} on {counted(num_tasks, 'task')}", *_counts(found)]
    lines += [
        f"  training loss above that of {rival.baseline} on {', '.join(rival.lost)}"
        for rival in found.against
        if rival.lost
    ]
    lines += [
        f"  rate of {rival.baseline} at the edge of its grid on {', '.join(rival.at_edge)}"
        for rival in found.against
        if rival.at_edge
    ]
    lines += [_speedup(fast) for fast in found.speedups]
    lines.append(f"  ended above its first loss: {', '.join(found.diverged) or 'never'}")
    return "\n".join(lines)


def _speedup(fast):
    """A line of text. The mean has a sign if it is a bound, for too many of its numbers are cut."""
    first, last = scores.LADDER[0], scores.LADDER[-1]
    sign = f"{fast.cut.sign} " if fast.cut.sign else ""
    line = f"  speedup against {fast.baseline}, tuned: {sign}{fast.mean:.2f} ({fast.low:.2f} to {fast.high:.2f})"
    shares = ((fast.cut.below, f"≤ {first:g}"), (fast.cut.above, f"≥ {last:g}"))
    at_ends = [f"{share:.0%} of runs {bound}" for share, bound in shares if share]
    return f"{line}, within {first:g} to {last:g}{'; ' if at_ends else ''}{', '.join(at_ends)}"


def _counts(found):
    """A table: for each baseline the number of tasks on which the optimizer is at or below it."""
    if not found.against:
        return []
    columns = {
        "training loss": lambda rival: str(len(rival.won)),
        "held-out loss": lambda rival: str(len(rival.won_held_out)),
    }
    if any(rival.with_error for rival in found.against):
        columns["error"] = lambda rival: f"{len(rival.won_error)} of {len(rival.with_error)}"
    if found.against[0].won_best is not None:
        columns["best held-out loss"] = lambda rival: str(len(rival.won_best))
    rows = [["  at or below", *columns]]
    rows += [[f"  {rival.baseline}", *(cell(rival) for cell in columns.values())] for rival in found.against]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def as_json(found: Verdict) -> dict[str, Any]:
    """The verdict as plain JSON values."""
    return {
        **found._asdict(),
        "against": [rival._asdict() for rival in found.against],
        "speedups": [{**fast._asdict(), "cut": fast.cut._asdict()} for fast in found.speedups],
    }


def _won(pairs):
    """Tasks where the mean of the first values is at or below that of the others."""
    return tuple(task for task, (own, rivals) in pairs.items() if _mean(own) <= _mean(rivals))


def _mean(values):
    values = np.asarray(values, np.float64)
    return float(np.mean(values)) if np.all(np.isfinite(values)) else np.inf
