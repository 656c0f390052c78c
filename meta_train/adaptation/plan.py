"""How an adaptation spends its minutes: on a search by whole trainings, on the choice, and on the verdict."""

from collections.abc import Sequence
from typing import NamedTuple

from meta_train.evaluation import tuning
from meta_train.host.counted import counted

_RUNGS, _FEW_RUNGS = (0.25, 0.5, 0.625, 0.75, 0.875), (0.5, 0.75)
NUM_CANDIDATES = 7  # that the choice is among, beside the default
FEWEST = 24  # trainings in the least search
_ENOUGH = 100  # trainings that a search over whole runs should have; with fewer, it sees shorter ones
_SHARES = (1.0, 0.5, 0.25)  # of the steps, that trainings in the search may have
_MOST_FOR_VERDICT = 0.4  # of the minutes, for a verdict of more than the least size,
_MOST_FOR_RUNS = 0.15  # or this for its trainings, where compiling takes longer than these
_LEAST_COMPILE = 4.0  # seconds of a program; those of the default may have been kept on disk, and took less
_MARGIN = 0.03  # of the minutes, for what is in no estimate


class Pace(NamedTuple):
    """How long things take, in seconds."""

    compile_seconds: float  # a program
    step_seconds: float  # a step of one training, among those side by side on a device
    devices: int


class Size(NamedTuple):
    """How large choice and verdict are."""

    num_seeds: int  # of the verdict
    choice_seeds: int
    learning_rates: tuple[float, ...]  # that rivals are tuned over; () without rivals
    tuning_seeds: int
    rungs: tuple[float, ...]  # shares of the steps that both optimizers are told too, and make


class Plan(NamedTuple):
    """How the minutes are spent."""

    horizon: int  # steps of a training in the search
    num_trainings: int  # about, in the search
    search_seconds: float
    verdict_seconds: float  # of choice and verdict, rivals included
    size: Size


_GRID = tuning.LEARNING_RATES
SIZES = (
    Size(8, 6, _GRID, 8, _RUNGS),
    Size(8, 5, _GRID[::2], 4, _RUNGS),
    Size(6, 4, _GRID[::2], 2, _RUNGS),
    Size(5, 4, _GRID[::3], 2, _FEW_RUNGS),
    Size(5, 3, _GRID[::3], 1, _FEW_RUNGS),
)


def choose(minutes: float, spent: float, num_steps: int, rivals: Sequence[str], pace: Pace) -> Plan:
    """Makes the plan.

    Args:
      minutes: how long everything may take.
      spent: seconds of it that are gone.
      num_steps: of the trainings that the user makes.
      rivals: names of tuned baselines.
      pace: measured.

    Raises:
      ValueError: if the minutes are too few for the least search and verdict.

    Example:
      >>> plan = choose(10.0, 30.0, 1000, ("adamw-cosine", "muon"), Pace(10.0, 1e-3, 2))
      >>> plan.horizon, plan.num_trainings, len(plan.size.learning_rates)
      (1000, 708, 19)
    """
    total = 60.0 * minutes
    sizes = SIZES if rivals else [size._replace(learning_rates=()) for size in SIZES]
    compiling = _compile_seconds(rivals, pace)
    costs = [compiling + _run_seconds(size, num_steps, rivals, pace) for size in sizes]
    most = max(_MOST_FOR_VERDICT * total, compiling + _MOST_FOR_RUNS * total)
    fitting = [i for i, cost in enumerate(costs) if cost <= most]
    number = fitting[0] if fitting else len(sizes) - 1
    left = total * (1.0 - _MARGIN) - spent - costs[number]
    training = num_steps * pace.step_seconds / pace.devices
    least = FEWEST * training * _SHARES[-1]
    if left < least:
        needed = (spent + costs[-1] + least) / (1.0 - _MARGIN) / 60.0
        without = " Without tuned rivals (--no-rivals) it is less." if rivals else ""
        raise ValueError(
            f"{minutes:g} minutes are too few: a training of {counted(num_steps, 'step')} takes about "
            f"{num_steps * pace.step_seconds:.1f} seconds, and the least search and verdict {needed:.1f} minutes. "
            f"Give more minutes, or fewer steps.{without}"
        )
    share = next((share for share in _SHARES if left >= _ENOUGH * share * training), _SHARES[-1])
    horizon = max(1, round(share * num_steps))
    return Plan(horizon, int(left / training / share), left, costs[number], sizes[number])


def as_text(plan: Plan, num_steps: int) -> str:
    """The plan in words.

    Example:
      >>> plan = choose(10.0, 30.0, 1000, ("adamw-cosine", "muon"), Pace(10.0, 1e-3, 2))
      >>> print(as_text(plan, 1000))
      a search by about 708 trainings of 1,000 steps, a verdict on 8 seeds, rivals tuned over 19 learning rates
    """
    shorter = "" if plan.horizon == num_steps else f", shorter than the {num_steps:,} asked for, to have enough of them"
    rates = len(plan.size.learning_rates)
    rivals = f"rivals tuned over {counted(rates, 'learning rate')}" if rates else "no rivals"
    return (
        f"a search by about {counted(plan.num_trainings, 'training')} of {counted(plan.horizon, 'step')}{shorter}, "
        f"a verdict on {counted(plan.size.num_seeds, 'seed')}, {rivals}"
    )


def _compile_seconds(rivals, pace):
    """Each rival, and the default and each rival again for the time of a step."""
    rounds = -(-len(rivals) // pace.devices)
    return (rounds + 1 + len(rivals)) * max(pace.compile_seconds, _LEAST_COMPILE)


def _run_seconds(size, num_steps, rivals, pace):
    """The trainings of choice and verdict."""
    choice = (NUM_CANDIDATES + 1) * size.choice_seeds
    own = 2 * size.num_seeds * (1 + sum(size.rungs))
    seconds = (choice + own) * num_steps * pace.step_seconds / pace.devices
    if not rivals:
        return seconds
    scouts = min(tuning.NUM_SCOUTS, size.tuning_seeds)
    tuned = len(size.learning_rates) * scouts + 2 * tuning.NUM_FINALISTS * (size.tuning_seeds - scouts)
    runs = tuned + 2 * max(size.num_seeds, tuning.MIN_LANES)  # a choice by training loss, and one by held-out loss
    return seconds + -(-len(rivals) // pace.devices) * runs * num_steps * pace.step_seconds
