"""How a tuning spends its minutes: on the grid of constants, on hypergradients, on the choice and the verdict."""

from typing import NamedTuple

from meta_train.adaptation.plan import Pace
from meta_train.host.counted import counted
from meta_train.tuning import grid

NUM_CANDIDATES = 4  # that the choice is among, beside the constants
_SEEDS = 4  # trainings of a hypergradient
_LEAST_STEPS = 4  # along hypergradients
_HYPERGRADIENT = 6.0  # trainings that one hypergradient takes as long as, about, before it is measured
_COMPILE = 2.0  # times the compilation of a training
_MOST_FOR_REST = 0.6  # of the minutes, for all but the hypergradients, where there is a smaller size
_MARGIN = 0.03  # of the minutes, for what is in no estimate


class Size(NamedTuple):
    """How large grid, choice and verdict are."""

    num_settings: int  # of the grid
    choice_seeds: int
    num_seeds: int  # of the verdict


class Plan(NamedTuple):
    """How the minutes are spent."""

    hypergradient_seeds: int  # trainings of each step along a hypergradient
    last_seconds: float  # of choice and verdict
    size: Size


SIZES = (Size(100, 6, 8), Size(30, 4, 6))


def choose(minutes: float, spent: float, num_steps: int, pace: Pace) -> Plan:
    """Makes the plan.

    Args:
      minutes: how long everything may take.
      spent: seconds of it that are gone.
      num_steps: of a training.
      pace: measured.

    Raises:
      ValueError: if the minutes are too few.

    Example:
      >>> choose(10.0, 30.0, 1000, Pace(10.0, 1e-3, 2)).size.num_settings
      100
    """
    total, training = 60.0 * minutes, num_steps * pace.step_seconds / pace.devices
    seeds = pace.devices * max(1, _SEEDS // pace.devices)
    least = _COMPILE * pace.compile_seconds + _LEAST_STEPS * seeds * _HYPERGRADIENT * training
    rest = [spent + (_tries(size) + _lasts(size)) * training for size in SIZES]
    number = 0 if rest[0] <= _MOST_FOR_REST * total else 1
    if rest[number] + least > total * (1.0 - _MARGIN):
        needed = (rest[1] + least) / (1.0 - _MARGIN) / 60.0
        raise ValueError(
            f"{minutes:g} minutes are too few: a training of {counted(num_steps, 'step')} takes about "
            f"{num_steps * pace.step_seconds:.1f} seconds, and the least grid, descent and verdict {needed:.1f} "
            "minutes. Give more minutes, or fewer steps."
        )
    size = SIZES[number]
    return Plan(seeds, _lasts(size) * training + _MARGIN * total, size)


def as_text(plan: Plan) -> str:
    """The plan in words.

    Example:
      >>> print(as_text(choose(10.0, 30.0, 1000, Pace(10.0, 1e-3, 2))))
      a grid of 100 constant settings, hypergradients of 4 trainings each, a verdict on 8 seeds
    """
    return (
        f"a grid of {plan.size.num_settings} constant settings, hypergradients of "
        f"{counted(plan.hypergradient_seeds, 'training')} each, a verdict on {counted(plan.size.num_seeds, 'seed')}"
    )


def _tries(size):
    return size.num_settings + grid.NUM_FINALISTS * grid.FINAL_SEEDS


def _lasts(size):
    return (NUM_CANDIDATES + 1) * size.choice_seeds + 2 * size.num_seeds
