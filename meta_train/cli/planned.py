"""How large a comparison is: as the options say, or what fits into --minutes."""

from collections.abc import Mapping
from collections.abc import Sequence

from meta_train.cli import outputs
from meta_train.evaluation import baselines
from meta_train.evaluation import budget
from meta_train.evaluation import protocol
from meta_train.evaluation import tuning
from meta_train.evaluation.budget import Plan
from meta_train.evaluation.protocol import Contender
from meta_train.host.progress import TellFn
from meta_train.tasks.base import Task

NUM_SEEDS = 5  # unless --seeds or --minutes says otherwise
NUM_SEEDS_LARGE = 3  # on the suite "large"


def plan(
    minutes: float | None,
    chosen: Sequence[Task],
    contenders: Mapping[str, Contender],
    rivals: Sequence[str],
    *,
    horizons: Sequence[int],
    default_steps: int,
    num_seeds: int | None,
    halves: bool = False,
    large: bool = False,
    tell: TellFn = outputs.tell,
) -> Plan:
    """Makes the plan of a comparison. If --minutes was given, it calibrates, and tells what it chose.

    Args:
      minutes: of --minutes.
      chosen, contenders: the tasks and the judged optimizers.
      rivals: names of the baselines.
      horizons: of --steps; may be empty.
      default_steps: the number of steps if neither was given.
      num_seeds: of --seeds.
      halves: of --halves.
      large: whether the tasks are of the suite "large". Then rates are tuned over a smaller grid with one seed, there
        are fewer seeds, and no speedups, which need runs of four times the steps. --minutes has its own plans.
      tell: is told what is measured and chosen.

    Raises:
      ValueError: if nothing fits into the minutes.
    """
    if minutes is None:
        steps = tuple(sorted(set(horizons))) or (default_steps,)
        if large:
            return Plan(steps, num_seeds or NUM_SEEDS_LARGE, baselines.LARGE_LEARNING_RATES, (), tuning_seeds=1)
        return Plan(steps, num_seeds or NUM_SEEDS, tuning.LEARNING_RATES, protocol.PACEMAKERS)
    tell("Measuring how long a step takes")
    steps = sorted(set(horizons)) or None
    found, needed = budget.choose(
        minutes, chosen, contenders, rivals, horizons=steps, num_seeds=num_seeds, halves=halves
    )
    tell(f"Chosen for --minutes {minutes:g}: {budget.as_text(found)}. About {needed:.1f} minutes.")
    return found
