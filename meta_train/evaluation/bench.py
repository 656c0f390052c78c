"""One optimizer on one task: its tuning, its runs at all horizons, and what of it is kept on disk."""

import functools
import os
from typing import Any
from typing import NamedTuple

import jax
import numpy as np

from meta_train.evaluation import evaluate
from meta_train.evaluation import kept
from meta_train.evaluation import lanes
from meta_train.evaluation import scores
from meta_train.evaluation import tuning
from meta_train.evaluation.baselines import Baseline
from meta_train.evaluation.evaluate import Curves
from meta_train.evaluation.evaluate import Result
from meta_train.evaluation.lanes import Lanes
from meta_train.evaluation.lanes import Starter
from meta_train.evaluation.side_by_side import num_lanes
from meta_train.evaluation.trials import trials
from meta_train.host.counted import counted
from meta_train.host.progress import TellFn
from meta_train.tasks.base import Task

NUM_MARKS = 20  # evenly over a run, where held-out metrics are taken along the way
_METRIC = "held_out/"  # before the name of a metric, among the arrays that are kept of a run


class Bench(NamedTuple):
    """What all optimizers on a task share."""

    task: Task
    starts: Starter
    horizons: tuple[int, ...]  # increasing
    num_seeds: int
    learning_rates: tuple[float, ...]  # that baselines are tuned over
    halves: bool  # whether to choose by held-out loss too, and to take held-out metrics along the way
    choose: Any  # data like the task's, with the half to choose by; None without halves
    cache: str | os.PathLike[str] | None
    data_digest: str | None  # None without a cache
    progress: TellFn
    tuning_seeds: int = tuning.NUM_SEEDS  # runs of each candidate that remains, see `tuning`


class Measured(NamedTuple):
    """An optimizer at one horizon."""

    result: Result
    ladder: np.ndarray | None  # float[rungs, seeds], final losses over `scores.LADDER`, at the rate of this horizon


def measured(bench: Bench, baseline: Baseline, *, ladder: bool = False) -> list[dict[int, Measured]]:
    """Tunes an optimizer, if it is tuned at all, and runs it.

    Returns its results for each horizon: once, or with halves for each of the two choices.
    """
    longest, candidates = bench.horizons[-1], _candidates(bench, baseline)
    program = lanes.build(
        bench.task,
        baseline.make,
        width=num_lanes(bench.task, bench.num_seeds, tuned=baseline.tuned),
        size=_rungs(longest)[-1] if ladder else longest,
        num_marks=max(len(_marks(bench, steps)) for steps in bench.horizons)
        if baseline.scheduled
        else sum(len(_marks(bench, steps)) for steps in bench.horizons) + ladder,
        judged=baseline.judged,
        starts=bench.starts,
        like=candidates[0],
    )
    chosen = _tuned(bench, baseline, program, candidates) if baseline.tuned else [dict.fromkeys(bench.horizons)]
    run = functools.cache(lambda point, marks: _run(bench, baseline, program, point, marks))
    find = _scheduled if baseline.scheduled else _unscheduled
    return [
        find(bench, baseline, run, points, ladder and number == 0, number == 1) for number, points in enumerate(chosen)
    ]


def _scheduled(bench, baseline, run, points, ladder, by_held_out):
    """A run for each horizon and each rung of its ladder, but none twice."""
    found = {}
    for steps, point in points.items():
        result = _result(bench, baseline, run(point, _marks(bench, steps)), steps, point, by_held_out)
        marks = {rung: _marks(bench, rung) if rung in bench.horizons else (rung,) for rung in _rungs(steps)}
        finals = [lanes.final_losses(run(point, marks[rung]).losses) for rung in _rungs(steps) if ladder]
        found[steps] = Measured(result, np.stack(finals) if ladder else None)
    return found


def _unscheduled(bench, baseline, run, points, ladder, by_held_out):
    """A run for each point, as long as the longest horizon that has it, or the last rung of that one's ladder."""
    found = {}
    for point in dict.fromkeys(points.values()):
        mine = [steps for steps in bench.horizons if points[steps] == point]
        end = _rungs(mine[-1])[-1] if ladder else mine[-1]
        curves = run(point, tuple(sorted({end}.union(*(_marks(bench, steps) for steps in mine)))))
        for steps in mine:
            result = _result(bench, baseline, curves, steps, point, by_held_out)
            finals = [lanes.final_losses(curves.losses[:, :rung]) for rung in _rungs(steps) if ladder]
            found[steps] = Measured(result, np.stack(finals) if ladder else None)
    return found


def _result(bench, baseline, curves, steps, point, by_held_out):
    rate = point.learning_rate if baseline.by_trials else point
    name = baseline.name if rate is None else baseline.name.replace(" (", f" {rate:.3g} (")
    name = name.removesuffix(")") + ", held out)" if by_held_out else name
    result = curves.until(steps, name, rate, _marks(bench, steps) if bench.halves else ())
    if baseline.by_trials:
        return result._replace(hyperparameters=point._asdict())
    return result._replace(at_edge=rate in (bench.learning_rates[0], bench.learning_rates[-1]))


def _marks(bench, steps):
    """Where a run takes held-out metrics: at its end, and with halves along the way."""
    if not bench.halves:
        return (steps,)
    return tuple(sorted({max(1, steps * k // NUM_MARKS) for k in range(1, NUM_MARKS + 1)}))


def _rungs(steps):
    return [max(1, round(rung * steps)) for rung in scores.LADDER]


def _candidates(bench, baseline):
    return trials() if baseline.by_trials else bench.learning_rates


def _tuned(bench, baseline, program, candidates):
    """For each kind of choice, the hyperparameters for each horizon."""
    seeds = (bench.tuning_seeds, tuning.NUM_SCOUTS, tuning.NUM_FINALISTS)
    asked = ("choose", bench.horizons, tuple(candidates), seeds, bench.halves)

    def tune():
        found = tuning.choose(
            program if program.width > 1 else _with_kept_runs(bench, program),
            candidates,
            horizons=bench.horizons,
            scheduled=baseline.scheduled,
            ordered=not baseline.by_trials,
            num_seeds=bench.tuning_seeds,
            data=bench.choose if bench.halves else None,
            progress=lambda line: bench.progress(f"{bench.task.name}: {baseline.name}, {line}"),
        )
        kinds = ("training", "held_out") if bench.halves else ("training",)
        return {kind: np.array([getattr(found[steps], kind) for steps in bench.horizons]) for kind in kinds}

    kinds = kept.remember(bench.cache, lambda: _name(bench, program, asked), tune).values()
    return [{steps: candidates[i] for steps, i in zip(bench.horizons, places, strict=True)} for places in kinds]


def _with_kept_runs(bench, program: Lanes):
    """The program of a large model, whose tuning takes so long that each of its runs is kept."""

    def train(hyperparameters, start, marks, num_steps, held_out=True, data=None):
        def run():
            losses, metrics = program.train(hyperparameters, start, marks, num_steps, held_out, data)
            return {"losses": losses, **{f"{_METRIC}{name}": values for name, values in metrics.items()}}

        run_digest = kept.digest((hyperparameters, jax.random.key_data(start.train_key)))
        asked = ("lane", run_digest, tuple(marks), num_steps, held_out, data is None)
        arrays = kept.remember(bench.cache, lambda: _name(bench, program, asked), run)
        metrics = {name.removeprefix(_METRIC): x for name, x in arrays.items() if name.startswith(_METRIC)}
        return arrays["losses"], metrics

    return program._replace(train=train)


def _run(bench, baseline, program, point, marks):
    def run():
        bench.progress(f"{bench.task.name}: {baseline.name}, {counted(marks[-1], 'step')}")
        curves = evaluate.measure(
            program,
            marks=marks,
            num_steps=marks[-1],
            num_seeds=bench.num_seeds,
            hyperparameters=0.0 if point is None else point,
        )
        return curves.to_arrays()

    asked = ("run", point, marks, bench.num_seeds)
    return Curves.from_arrays(kept.remember(bench.cache, lambda: _name(bench, program, asked), run))


def _name(bench, program, asked):
    return kept.name(bench.task.name, program.text(), bench.data_digest, asked)
