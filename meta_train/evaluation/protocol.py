"""The protocol by which learned optimizers are judged, beside tuned and tuning-free baselines.

On each task, every optimizer runs from the same seeds. Learning rates of the baselines are tuned for the task and the
horizon, on other seeds (`tuning`). Speedups come from runs of the tuned baselines over shorter and longer
horizons, at that rate.

Several horizons cost little more than the longest. An optimizer that is not told the number of steps runs once, or once
for each tuned rate: a shorter run is the beginning of a longer one, and held-out metrics are taken on the way. Only
optimizers that are told the number of steps run for each horizon.

Results of baselines are kept on disk as soon as they are there. So an evaluation that was stopped resumes where it was,
and baselines run once for all optimizers that are compared with them. Only the judged optimizers run every time, which
is the smallest part.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import functools
import os
from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import numpy as np
import optax

from meta_train.evaluation import evaluate
from meta_train.evaluation import kept
from meta_train.evaluation import lanes
from meta_train.evaluation import scores
from meta_train.evaluation import tuning
from meta_train.evaluation.baselines import BASELINES
from meta_train.evaluation.baselines import Baseline
from meta_train.evaluation.baselines import check as check_baselines
from meta_train.evaluation.evaluate import Curves
from meta_train.evaluation.evaluate import Result
from meta_train.evaluation.lanes import Starter
from meta_train.host.counted import counted
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
      baselines: results of the baselines; the names of tuned ones include the rate.
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
    baselines: Sequence[str] = tuple(BASELINES),
    pacemakers: Sequence[str] = PACEMAKERS,
    cache: str | os.PathLike[str] | None = None,
    progress: TellFn = lambda line: None,
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
      cache: folder that keeps the results of baselines; None keeps nothing. Results are found again only for the same
        program, data, seeds and horizons.
      progress: called with a line of text before each piece of work.

    Returns:
      A `Judgement` for each horizon, in increasing order.

    Raises:
      ValueError: if there is no horizon, one of them or num_seeds is below 1, or there is no such baseline.

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
    check_baselines(baselines)
    data_digest = None if cache is None else kept.digest(task.data)
    task = task._replace(data=jax.device_put(task.data))
    bench = _Bench(task, lanes.starter(task), tuple(sorted(set(horizons))), num_seeds, cache, data_digest, progress)
    own = [_measured(bench._replace(cache=None), _as_baseline(name, each)) for name, each in contenders.items()]
    rivals = {key: _measured(bench, BASELINES[key], ladder=key in pacemakers) for key in baselines}
    found = {}
    for steps in bench.horizons:
        mine = [each[steps].result for each in own]
        paces = {key: rivals[key][steps].ladder for key in baselines} if mine else {}
        speedups = {
            key: np.stack([scores.speedup(result.final_losses, finals) for result in mine])
            for key, finals in paces.items()
            if finals is not None
        }
        found[steps] = Judgement(mine, [rivals[key][steps].result for key in baselines], speedups)
    return found


class _Bench(NamedTuple):
    """What all optimizers on a task share."""

    task: Task
    starts: Starter
    horizons: tuple[int, ...]  # increasing
    num_seeds: int
    cache: str | os.PathLike[str] | None
    data_digest: str | None  # None without a cache
    progress: TellFn


class _Measured(NamedTuple):
    """An optimizer at one horizon."""

    result: Result
    ladder: np.ndarray | None  # float[rungs, seeds], final losses over `scores.LADDER`, at the rate of this horizon


def _as_baseline(name, contender):
    told = not isinstance(contender, optax.GradientTransformation)
    make = (lambda rate, num_steps: contender(num_steps)) if told else (lambda rate, num_steps: contender)
    return Baseline(name, make, tuned=False, scheduled=told)


def _measured(bench: _Bench, baseline: Baseline, *, ladder: bool = False) -> dict[int, _Measured]:
    """Tunes an optimizer, if it is tuned at all, and runs it. Returns its results for each horizon."""
    longest = bench.horizons[-1]
    program = lanes.build(
        bench.task,
        baseline.make,
        width=max(bench.num_seeds, tuning.MIN_LANES) if baseline.tuned else bench.num_seeds,
        size=_rungs(longest)[-1] if ladder else longest,
        num_marks=1 if baseline.scheduled else len(bench.horizons) + ladder,
        judged=baseline.judged,
        starts=bench.starts,
    )
    rates = _tuned(bench, baseline, program) if baseline.tuned else dict.fromkeys(bench.horizons)
    find = _scheduled if baseline.scheduled else _unscheduled
    return find(bench, baseline, program, rates, ladder)


def _scheduled(bench, baseline, program, rates, ladder):
    """A run for each horizon and each rung of its ladder, but none twice."""
    run = functools.cache(lambda rate, steps: _run(bench, baseline, program, rate, (steps,)))
    found = {}
    for steps in bench.horizons:
        rate = rates[steps]
        result = run(rate, steps).until(steps, _title(baseline, rate), rate)
        finals = [lanes.final_losses(run(rate, rung).losses) for rung in _rungs(steps) if ladder]
        found[steps] = _Measured(result, np.stack(finals) if ladder else None)
    return found


def _unscheduled(bench, baseline, program, rates, ladder):
    """A run for each rate, as long as the longest horizon that has it, or the last rung of that one's ladder."""
    found = {}
    for rate in dict.fromkeys(rates.values()):
        mine = [steps for steps in bench.horizons if rates[steps] == rate]
        end = _rungs(mine[-1])[-1] if ladder else mine[-1]
        curves = _run(bench, baseline, program, rate, tuple(sorted({*mine, end})))
        for steps in mine:
            result = curves.until(steps, _title(baseline, rate), rate)
            finals = [lanes.final_losses(curves.losses[:, :rung]) for rung in _rungs(steps) if ladder]
            found[steps] = _Measured(result, np.stack(finals) if ladder else None)
    return found


def _rungs(steps):
    return [max(1, round(rung * steps)) for rung in scores.LADDER]


def _title(baseline, rate):
    return baseline.name if rate is None else baseline.name.replace("(tuned)", f"{rate:g} (tuned)")


def _tuned(bench, baseline, program):
    grid = tuning.LEARNING_RATES
    asked = ("tune", bench.horizons, grid, tuning.NUM_SEEDS, tuning.NUM_SCOUTS, tuning.NUM_FINALISTS)

    def tune():
        found = tuning.tune(
            program,
            horizons=bench.horizons,
            scheduled=baseline.scheduled,
            learning_rates=grid,
            progress=lambda line: bench.progress(f"{bench.task.name}: {baseline.name}, {line}"),
        )
        return {"rates": np.array([found[steps] for steps in bench.horizons])}

    rates = kept.remember(bench.cache, lambda: _name(bench, program, asked), tune)["rates"]
    return dict(zip(bench.horizons, map(float, rates), strict=True))


def _run(bench, baseline, program, rate, marks):
    def run():
        bench.progress(f"{bench.task.name}: {baseline.name}, {counted(marks[-1], 'step')}")
        curves = evaluate.measure(
            program, marks=marks, num_steps=marks[-1], num_seeds=bench.num_seeds, learning_rate=rate or 0.0
        )
        return curves.to_arrays()

    asked = ("run", rate, marks, bench.num_seeds)
    return Curves.from_arrays(kept.remember(bench.cache, lambda: _name(bench, program, asked), run))


def _name(bench, program, asked):
    return kept.name(bench.task.name, program.text(), bench.data_digest, asked)
