"""How much of a learned optimizer's gain over a baseline is design, and how much is learned.

The prior is the same architecture with the theta that meta-training begins with. Both are compared with one baseline by
the mean over tasks of log(final training loss / the baseline's): -1 stands for a loss that is 2.7 times lower.
"""

from collections.abc import Mapping
import math
from typing import Any
from typing import NamedTuple

import numpy as np

from meta_train.evaluation.baselines import BASELINES
from meta_train.evaluation.protocol import Judgement
from meta_train.host.counted import counted

_FLOOR = 1e-30  # smaller losses count as equal


class Gain(NamedTuple):
    """A learned optimizer before and after meta-training, beside a baseline.

    Fields:
      optimizer: the name of the learned one.
      prior: what it is called as it was before training.
      baseline: tuned Adam if it is there, otherwise the first tuned baseline, or the first one.
      log_ratio: mean over tasks of the log of the final training loss, divided by that of the baseline. The losses are
        means over seeds. NaN if no task counts.
      prior_log_ratio: the same before training.
      tasks: names of the tasks that count.
      left_out: names of the others, on which one of the three diverged or has a negative loss.
    """

    optimizer: str
    prior: str
    baseline: str
    log_ratio: float
    prior_log_ratio: float
    tasks: tuple[str, ...]
    left_out: tuple[str, ...]


def gain(judgements: Mapping[str, Judgement]) -> Gain:
    """Compares an optimizer with its prior.

    Args:
      judgements: for each task, what `protocol.judge` gave for one horizon. The first contender is the optimizer, the
        second its prior.

    Raises:
      ValueError: if there are not two contenders, or there is no baseline.

    Example:
      >>> import optax
      >>> from meta_train import tasks
      >>> from meta_train.evaluation import protocol
      >>> contenders = {"trained": optax.sgd(0.1), "before": optax.sgd(1e-3)}
      >>> task = tasks.get("quadratic")
      >>> judged = protocol.judge(task, contenders, horizons=(20,), num_seeds=2, baselines=["adam-1e-3"])
      >>> found = gain({"quadratic": judged[20]})
      >>> found.log_ratio < found.prior_log_ratio
      True
    """
    first = next(iter(judgements.values()))
    if len(first.contenders) != 2 or not first.baselines:
        raise ValueError(
            "gain needs two contenders, an optimizer and its prior, and at least one baseline, got "
            f"{len(first.contenders)} and {len(first.baselines)}."
        )
    place = _baseline(first.baselines)
    logs, left_out = {}, []
    for task, judged in judgements.items():
        results = (*judged.contenders, judged.baselines[place])
        losses = np.array([np.mean(result.final_losses, dtype=np.float64) for result in results])
        if np.all(np.isfinite(losses)) and np.all(losses >= 0):
            logs[task] = np.log(np.maximum(losses, _FLOOR))
        else:
            left_out.append(task)
    own, prior, rival = np.mean(list(logs.values()), axis=0) if logs else [math.nan] * 3
    return Gain(
        first.contenders[0].optimizer,
        first.contenders[1].optimizer,
        first.baselines[place].plain_name,
        float(own - rival),
        float(prior - rival),
        tuple(logs),
        tuple(left_out),
    )


def without(judgements: Mapping[str, Judgement]) -> dict[str, Judgement]:
    """The judgements without the prior, which is no rival: scores depend on who takes part.

    Args:
      judgements: as of `gain`.
    """
    return {
        task: judged._replace(
            contenders=judged.contenders[:1], speedups={key: x[:1] for key, x in judged.speedups.items()}
        )
        for task, judged in judgements.items()
    }


def as_text(found: Gain) -> str:
    """The gain as lines of text."""
    name = f"{found.baseline}{'' if 'tuned' in found.baseline or 'trials' in found.baseline else ', not tuned'}"
    rows = ((found.optimizer, found.log_ratio), (found.prior, found.prior_log_ratio))
    width = max(len(optimizer) for optimizer, _ in rows)
    lines = [f"Mean log ratio of the final training loss to that of {name}, over {counted(len(found.tasks), 'task')}"]
    lines += [f"  {optimizer.ljust(width)}  {ratio:+.2f}" for optimizer, ratio in rows]
    if found.left_out:
        lines.append(f"  left out, as a loss is infinite or negative: {', '.join(found.left_out)}")
    return "\n".join(lines)


def as_json(found: Gain) -> dict[str, Any]:
    """The gain as plain JSON values."""
    ratios = {"log_ratio": found.log_ratio, "prior_log_ratio": found.prior_log_ratio}
    return found._asdict() | {name: None if math.isnan(ratio) else ratio for name, ratio in ratios.items()}


def _baseline(baselines):
    """The place of the baseline that is compared with."""
    names = [result.plain_name for result in baselines]
    if BASELINES["adam"].name in names:
        return names.index(BASELINES["adam"].name)
    return next((i for i, result in enumerate(baselines) if result.learning_rate is not None), 0)
