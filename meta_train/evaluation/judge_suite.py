"""Judges optimizers on several tasks side by side, one on each device, and prints a table as soon as one is done."""

from collections.abc import Mapping
from collections.abc import Sequence
import sys
from typing import Any

from meta_train.evaluation import baselines as rivals
from meta_train.evaluation import budget
from meta_train.evaluation import protocol
from meta_train.evaluation import report
from meta_train.evaluation import tuning
from meta_train.evaluation.budget import Pace
from meta_train.evaluation.budget import Plan
from meta_train.evaluation.protocol import Contender
from meta_train.evaluation.protocol import Judgement
from meta_train.host import parallel
from meta_train.host import progress
from meta_train.host.counted import counted
from meta_train.host.time_left import TimeLeft
from meta_train.tasks.base import Task

# Of a small task on a core. Only how these relate to each other enters the estimate of the time that is left.
_TYPICAL = Pace(compile_seconds=3.0, step_seconds=5e-5, evaluate_seconds=1e-4)


def judge_suite(
    chosen: Sequence[Task],
    contenders: Mapping[str, Contender],
    *,
    horizons: Sequence[int],
    num_seeds: int,
    quiet: bool = False,
    tables: bool = True,
    **rest: Any,
) -> dict[int, dict[str, Judgement]]:
    """Judges optimizers on tasks, with a progress bar and an estimate of the time that is left.

    Args:
      chosen: the tasks.
      contenders, horizons, num_seeds, **rest: what `protocol.judge` takes.
      quiet: whether to show no progress.
      tables: whether to print the table of a task as soon as the task is done.

    Returns:
      For each horizon a `Judgement` for each task by name, in the order given.

    Raises:
      Whatever judging a task raises, at once; see `parallel.over_devices`.
    """
    judged = {}
    sizes = _sizes(contenders, horizons, num_seeds, **rest)
    left = TimeLeft(len(chosen) * sum(sizes.values()))
    with progress.bar(len(chosen), unit="task", disable=quiet, estimate=False) as bar:

        def work(task, stop_here):
            worked = False  # on the optimizer that is judged now; results of baselines may be kept

            def tell(line):
                nonlocal worked
                worked = True
                stop_here()
                bar.set_description(f"{left.text()}; {line}".removeprefix("; "))

            def finished(name):
                nonlocal worked
                (left.done if worked else left.skip)(sizes[name])
                worked = False

            return protocol.judge(
                task,
                contenders,
                horizons=horizons,
                num_seeds=num_seeds,
                progress=tell,
                finished=finished,
                **rest,
            )

        for task, found in parallel.over_devices(work, chosen):
            judged[task.name] = found
            for steps, at in found.items() if tables else ():
                table = report.table([*at.contenders, *at.baselines])
                title = f"{task.name}, {counted(steps, 'step')}, {counted(num_seeds, 'seed')}"
                bar.write(f"\n{title}\n{table}", file=sys.stdout)
            bar.set_description(left.text())
            bar.update()
    return {steps: {task.name: judged[task.name][steps] for task in chosen} for steps in sorted(set(horizons))}


def _sizes(
    contenders,
    horizons,
    num_seeds,
    baselines=rivals.USUAL,
    pacemakers=protocol.PACEMAKERS,
    halves=False,
    learning_rates=None,
    tuning_seeds=tuning.NUM_SEEDS,
    **others,
):
    """About how long each contender and each baseline takes on a task, in no particular unit."""
    rates = tuple(learning_rates or tuning.LEARNING_RATES)
    plan = Plan(tuple(sorted(set(horizons))), num_seeds, rates, tuple(pacemakers), tuning_seeds)
    own = budget.estimate(plan, _TYPICAL, [_TYPICAL], [], halves=halves)
    of_baselines = {name: budget.estimate(plan, _TYPICAL, [], [name], halves=halves) for name in baselines}
    return dict.fromkeys(contenders, own) | of_baselines
