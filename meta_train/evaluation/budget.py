"""Chooses how many steps, seeds and learning rates of a comparison fit into a number of minutes.

A short calibration on the task measures how long programs take to compile and runs take to step. The estimate that
follows from it counts every run of the protocol.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import time
from typing import NamedTuple

import jax
import numpy as np
import optax

from meta_train.evaluation import lanes
from meta_train.evaluation import protocol
from meta_train.evaluation import scores
from meta_train.evaluation import trials
from meta_train.evaluation import tuning
from meta_train.evaluation.baselines import BASELINES
from meta_train.evaluation.bench import NUM_MARKS
from meta_train.evaluation.lanes import MakeOptimizerFn
from meta_train.evaluation.protocol import Contender
from meta_train.evaluation.side_by_side import num_lanes
from meta_train.host.counted import counted
from meta_train.tasks.base import Task

RIVAL = "adamw-cosine"  # stands for all baselines in the calibration
LIKE_CONTENDERS = ("muon", "muon-trials", "soap")  # baselines whose steps take as long as a judged optimizer's
_MAX_CALIBRATION_STEPS, _CALIBRATION_SECONDS = 128, 0.5


class Pace(NamedTuple):
    """How long an optimizer takes on a task."""

    compile_seconds: float
    step_seconds: float  # of one run among those side by side
    evaluate_seconds: float  # of the held-out metrics of one run
    width: int = tuning.MIN_LANES  # runs side by side


class Plan(NamedTuple):
    """How large a comparison is.

    Fields:
      horizons: numbers of steps.
      num_seeds: runs of each optimizer that are reported.
      learning_rates: the grid that baselines are tuned over.
      pacemakers: baselines for which speedups are measured, in runs of up to four times the steps.
      tuning_seeds: runs of each rate that remains in the second round of tuning.
    """

    horizons: tuple[int, ...]
    num_seeds: int
    learning_rates: tuple[float, ...]
    pacemakers: tuple[str, ...]
    tuning_seeds: int = tuning.NUM_SEEDS


def plans(horizons: Sequence[int] | None = None, num_seeds: int | None = None) -> list[Plan]:
    """All plans, from the largest to the smallest.

    Args:
      horizons: fixed numbers of steps; None: one is chosen too, of at most 2,000, the longest that the released
        optimizers were trained for.
      num_seeds: fixed number of seeds; None: it is chosen too.

    Example:
      >>> plans()[0].horizons, plans()[-1].horizons
      ((2000,), (50,))
    """
    grid = tuning.LEARNING_RATES
    full, plain = (5, grid, protocol.PACEMAKERS), (5, grid, ())
    half, third = (3, grid[::2], ()), (2, grid[::3], ())
    if horizons is not None:
        sizes = [(tuple(horizons), size) for size in (full, plain, half, third)]
    else:
        sizes = [((steps,), full) for steps in (2_000, 1_000)]
        sizes += [((1_000,), plain), ((1_000,), half), ((500,), half)]
        sizes += [((steps,), third) for steps in (500, 200, 100, 50)]
    return [Plan(steps, num_seeds or size[0], *size[1:]) for steps, size in sizes]


def calibrate(task: Task, make: MakeOptimizerFn) -> Pace:
    """Measures an optimizer on a task, in a second or two and the time that its program takes to compile.

    Args:
      task: what to train.
      make: `(hyperparameters, num_steps) -> optax transformation`, as of `lanes.build`.
    """
    task = task._replace(data=jax.device_put(task.data))
    width = num_lanes(task, tuning.MIN_LANES, tuned=True)
    program = lanes.build(task, make, width=width, size=_MAX_CALIBRATION_STEPS)
    began = time.perf_counter()
    start = jax.block_until_ready(program.begin(lanes.keys(width, lanes.TUNE)))
    program.compile()
    compiled = time.perf_counter() - began

    def seconds(steps, held_out=False):
        began = time.perf_counter()
        program.train(np.full(width, 1e-3), start, (steps,), steps, held_out)
        return time.perf_counter() - began

    steps = 1
    taken = seconds(steps)
    while steps < _MAX_CALIBRATION_STEPS and taken < _CALIBRATION_SECONDS:
        steps *= 2
        taken = seconds(steps)
    evaluated = max(0.0, seconds(steps, held_out=True) - taken)
    return Pace(compiled, taken / steps / width, evaluated / width, width)


def estimate(
    plan: Plan, rival: Pace, contenders: Sequence[Pace], baselines: Sequence[str], *, halves: bool = False
) -> float:
    """Seconds that a comparison on one task takes, on one device, at most: nothing is found that was kept.

    Args:
      plan: how large it is.
      rival: the pace of the baseline `RIVAL`.
      contenders: the paces of the judged optimizers.
      baselines: names of the baselines.
      halves: as of `protocol.judge`.
    """
    longest, total, number = plan.horizons[-1], sum(plan.horizons), len(plan.horizons)
    marks = number * (NUM_MARKS if halves else 1)
    slowest = max([rival, *contenders], key=lambda pace: pace.step_seconds)
    seconds = sum(_seconds(pace, plan.num_seeds * total, plan.num_seeds * marks) for pace in contenders)
    for name in baselines:
        baseline = BASELINES[name]
        choices = 2 if baseline.tuned and halves else 1
        tuned, sweep = 0, total if baseline.scheduled else longest
        if baseline.tuned:
            candidates = trials.NUM_TRIALS if baseline.by_trials else len(plan.learning_rates)
            winners = choices if baseline.scheduled else choices * number  # at most, of one sweep
            remaining = min(candidates, winners * tuning.NUM_FINALISTS)
            scouts = min(tuning.NUM_SCOUTS, plan.tuning_seeds)
            tuned = candidates * scouts + remaining * (plan.tuning_seeds - scouts)
        reported = max(plan.num_seeds, rival.width) if baseline.tuned else plan.num_seeds  # which fill the lanes
        rungs = (sum(scores.LADDER) if baseline.scheduled else scores.LADDER[-1]) if name in plan.pacemakers else 1.0
        length = total if baseline.tuned else sweep  # each horizon may have a rate of its own
        seconds += _seconds(
            slowest if name in LIKE_CONTENDERS else rival,
            tuned * sweep + reported * (rungs + choices - 1) * length,
            tuned * number * halves + reported * choices * marks,
        )
    return seconds


def choose(
    minutes: float,
    chosen: Sequence[Task],
    contenders: Mapping[str, Contender],
    baselines: Sequence[str],
    *,
    horizons: Sequence[int] | None = None,
    num_seeds: int | None = None,
    halves: bool = False,
) -> tuple[Plan, float]:
    """Chooses the largest plan that fits.

    Args:
      minutes: how long the comparison may take. The calibration counts.
      chosen: the tasks.
      contenders: the judged optimizers, as of `protocol.judge`.
      baselines: names of the baselines.
      horizons, num_seeds: what is fixed, as of `plans`.
      halves: as of `protocol.judge`.

    Returns:
      `(plan, minutes)`: the plan, and how long it will take about.

    Raises:
      ValueError: if none fits.
    """
    began = time.perf_counter()
    makes = [_make(contender) for contender in contenders.values()]
    paces = [(calibrate(task, BASELINES[RIVAL].make), [calibrate(task, make) for make in makes]) for task in chosen]
    side_by_side = min(len(jax.devices()), len(chosen))
    left = 60.0 * minutes - (time.perf_counter() - began)
    for plan in plans(horizons, num_seeds):
        needed = sum(estimate(plan, *pace, baselines, halves=halves) for pace in paces) / side_by_side
        if needed <= left:
            return plan, needed / 60.0
    raise ValueError(
        f"--minutes {minutes:g} is too little: the smallest comparison, {as_text(plan)}, takes about "
        f"{(60.0 * minutes - left + needed) / 60.0:.1f} minutes. Give more, or name fewer baselines with --baseline."
    )


def as_text(plan: Plan) -> str:
    """The plan in words.

    Example:
      >>> as_text(plans([200])[-1])
      '200 steps, 2 seeds, baselines tuned over 7 learning rates, no speedups'
    """
    steps = " and ".join(counted(steps, "step") for steps in plan.horizons)
    rates = f"baselines tuned over {counted(len(plan.learning_rates), 'learning rate')}"
    return f"{steps}, {counted(plan.num_seeds, 'seed')}, {rates}{'' if plan.pacemakers else ', no speedups'}"


def _seconds(pace, run_steps, evaluations):
    return pace.compile_seconds + run_steps * pace.step_seconds + evaluations * pace.evaluate_seconds


def _make(contender):
    if isinstance(contender, optax.GradientTransformation):
        return lambda rate, num_steps: contender
    return lambda rate, num_steps: contender(num_steps)
