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


class Speedup(NamedTuple):
    """How many times as many steps a tuned baseline needs to reach the optimizer's final losses."""

    baseline: str
    mean: float  # interquartile mean over tasks and seeds
    low: float  # 95 % interval by a bootstrap over seeds within tasks
    high: float


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
        won = tuple(task for task in own if _mean(own[task].final_losses) <= _mean(rivals[task].final_losses))
        held = tuple(task for task in own if _mean(own[task].held_out["loss"]) <= _mean(rivals[task].held_out["loss"]))
        against.append(Against(baseline.plain_name, won, tuple(task for task in own if task not in won), held))
    speedups = []
    for key in (key for key in PACEMAKERS if key in first.speedups):
        values = np.stack([judged.speedups[key][contender] for judged in judgements.values()])  # [tasks, seeds]
        interval = scores.interval(values, scores.interquartile_mean)
        speedups.append(Speedup(key, scores.interquartile_mean(values), *interval))
    diverged = tuple(task for task, result in own.items() if np.any(~(result.final_losses <= result.losses[:, 0])))
    return Verdict(first.contenders[contender].optimizer, tuple(against), tuple(speedups), diverged)


def as_text(found: Verdict, num_tasks: int) -> str:
    """The verdict as lines of text."""
    width = max((len(rival.baseline) for rival in found.against), default=0)
    lines = [f"{found.optimizer} on {counted(num_tasks, 'task')}"]
    for rival in found.against:
        lines.append(
            f"  at or below {(rival.baseline + ':').ljust(width + 1)}  training loss on {len(rival.won):2}, "
            f"held-out loss on {len(rival.won_held_out):2}"
            + (f"; not on {', '.join(rival.lost)}" if rival.lost else "")
        )
    lines += [
        f"  speedup against {fast.baseline}, tuned: {fast.mean:.2f} ({fast.low:.2f} to {fast.high:.2f}), within "
        f"{scores.LADDER[0]:g} to {scores.LADDER[-1]:g}"
        for fast in found.speedups
    ]
    lines.append(f"  ended above its first loss: {', '.join(found.diverged) or 'never'}")
    return "\n".join(lines)


def as_json(found: Verdict) -> dict[str, Any]:
    """The verdict as plain JSON values."""
    return {
        **found._asdict(),
        "against": [rival._asdict() for rival in found.against],
        "speedups": [fast._asdict() for fast in found.speedups],
    }


def _mean(values):
    values = np.asarray(values, np.float64)
    return float(np.mean(values)) if np.all(np.isfinite(values)) else np.inf
