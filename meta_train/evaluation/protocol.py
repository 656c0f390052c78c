"""The protocol by which learned optimizers are judged, beside tuned and tuning-free baselines.

On each task, every optimizer runs from the same seeds. The baselines are tuned for the task and the horizon, on other
seeds (`tuning`). Speedups come from runs of the tuned baselines over shorter and longer horizons, at the same rate.

With `halves`, each tuned baseline is there twice: as chosen by training loss, and as chosen by held-out loss on one
half of the held-out data. All held-out figures are then of the other half (`halves`), and are also taken along the way.

Several horizons cost little more than the longest. An optimizer that is not told the number of steps runs once, or once
for each tuned rate: a shorter run is the beginning of a longer one, and held-out metrics are taken on the way. Only
optimizers that are told the number of steps run for each horizon.

Results of baselines are kept on disk as soon as they are there. So an evaluation that was stopped resumes where it was,
and baselines run once for all optimizers that are compared with them. Only the judged optimizers run every time, which
is the smallest part.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import os
from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import numpy as np
import optax

from meta_train.evaluation import halves as held_out_halves
from meta_train.evaluation import kept
from meta_train.evaluation import lanes
from meta_train.evaluation import scores
from meta_train.evaluation import tuning
from meta_train.evaluation.baselines import BASELINES
from meta_train.evaluation.baselines import USUAL
from meta_train.evaluation.baselines import Baseline
from meta_train.evaluation.baselines import check as check_baselines
from meta_train.evaluation.bench import NUM_MARKS as NUM_MARKS
from meta_train.evaluation.bench import Bench
from meta_train.evaluation.bench import measured
from meta_train.evaluation.evaluate import Result
from meta_train.host.progress import TellFn
from meta_train.tasks.base import Task

# Baselines that speedups are measured against.
PACEMAKERS = ("adam", "adamw-cosine")


class ToldStepsFn(Protocol):
    """Makes an optimizer that is told the number of steps."""

    def __call__(self, num_steps: Any, /) -> optax.GradientTransformation:
        """Makes it.

        Args:
          num_steps: int32[], possibly traced, the length of the runs; None hides it from a learned optimizer.

        Returns:
          An optax transformation with final updates; it gets the loss as `value=`.
        """
        ...


Contender = optax.GradientTransformation | ToldStepsFn


class Judgement(NamedTuple):
    """The results on one task at one horizon.

    Fields:
      contenders: results of the judged optimizers, in the order given.
      baselines: results of the baselines; the names of tuned ones include the rate. With halves, each tuned one is
        there twice, chosen by training loss and then by held-out loss.
      speedups: for each pacemaker float[contenders, seeds], see `scores.speedup`.
    """

    contenders: list[Result]
    baselines: list[Result]
    speedups: dict[str, np.ndarray]


def judge(
    task: Task,
    contenders: Mapping[str, Contender],
    *,
    horizons: Sequence[int],
    num_seeds: int = 5,
    baselines: Sequence[str] = USUAL,
    pacemakers: Sequence[str] = PACEMAKERS,
    halves: bool = False,
    learning_rates: Sequence[float] | None = None,
    tuning_seeds: int = tuning.NUM_SEEDS,
    cache: str | os.PathLike[str] | None = None,
    progress: TellFn = lambda line: None,
    finished: TellFn = lambda name: None,
) -> dict[int, Judgement]:
    """Judges optimizers on one task, at several horizons.

    Args:
      task: what to train.
      contenders: optimizers by name. An optax transformation is not told the number of steps. An optimizer that is
        told is given as a function `(num_steps) -> optax transformation` of a traced integer.
      horizons: numbers of updates to make.
      num_seeds: independent runs of each.
      baselines: names from `BASELINES`.
      pacemakers: the baselines for which speedups are computed; they run for up to four times the horizons.
      halves: whether to choose tuned baselines also by held-out loss, on one half of the held-out data, and to report
        on the other half, and along the way.
      learning_rates: the grid that baselines are tuned over, in increasing order; None: `LEARNING_RATES`.
      tuning_seeds: runs of each candidate that remains in the second round of tuning, see `tuning`; with 1 there is no
        such round.
      cache: folder that keeps the results of baselines; None keeps nothing. Results are found again only for the same
        program, data, halves, seeds and horizons.
      progress: called with a line of text before each piece of work.
      finished: called with the name of each contender and each baseline when all of its runs are made.

    Returns:
      A `Judgement` for each horizon, in increasing order.

    Raises:
      ValueError: if there is no horizon, one of them, num_seeds or tuning_seeds is below 1, or there is no such
        baseline.

    Example:
      >>> import optax
      >>> from meta_train import tasks
      >>> task = tasks.get("quadratic")
      >>> found = judge(task, {"sgd": optax.sgd(0.1)}, horizons=(10, 20), num_seeds=2, baselines=["adam-1e-3"])
      >>> [result.optimizer for result in (*found[20].contenders, *found[20].baselines)]
      ['sgd', 'Adam 1e-3']
    """
    if not horizons or min(*horizons, num_seeds) < 1:
        raise ValueError(f"horizons and num_seeds must be at least 1, got {tuple(horizons)} and {num_seeds}.")
    if tuning_seeds < 1:
        raise ValueError(f"tuning_seeds must be at least 1, got {tuning_seeds}.")
    check_baselines(baselines)
    choose = None
    if halves:
        choose, report = held_out_halves.split(task.data)
        task = task._replace(data=report)
    data_digest = None if cache is None else kept.digest((task.data, choose))
    task, choose = task._replace(data=jax.device_put(task.data)), jax.device_put(choose)
    bench = Bench(
        task,
        lanes.starter(task),
        tuple(sorted(set(horizons))),
        num_seeds,
        tuple(learning_rates or tuning.LEARNING_RATES),
        halves,
        choose,
        cache,
        data_digest,
        progress,
        tuning_seeds,
    )
    own, rivals = [], {}
    for name, each in contenders.items():
        own += measured(bench._replace(cache=None), as_baseline(name, each))[:1]
        finished(name)
    for key in baselines:
        rivals[key] = measured(bench, BASELINES[key], ladder=key in pacemakers)
        finished(key)
    found = {}
    for steps in bench.horizons:
        mine = [each[steps].result for each in own]
        paces = {key: rivals[key][0][steps].ladder for key in baselines} if mine else {}
        speedups = {
            key: np.stack([scores.speedup(result.final_losses, finals) for result in mine])
            for key, finals in paces.items()
            if finals is not None
        }
        found[steps] = Judgement(mine, [each[steps].result for key in baselines for each in rivals[key]], speedups)
    return found


def as_baseline(name: str, contender: Contender) -> Baseline:
    """A judged optimizer as a baseline that is not tuned."""
    if isinstance(contender, optax.GradientTransformation):
        return Baseline(name, lambda rate, num_steps: contender, tuned=False)
    return Baseline(name, lambda rate, num_steps: contender(num_steps), tuned=False, scheduled=True)
