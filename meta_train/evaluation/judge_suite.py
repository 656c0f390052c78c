"""Judges optimizers on several tasks side by side, one on each device, and prints a table as soon as one is done."""

from collections.abc import Mapping
from collections.abc import Sequence
import sys
from typing import Any

from meta_train.evaluation import protocol
from meta_train.evaluation import report
from meta_train.evaluation.protocol import Contender
from meta_train.evaluation.protocol import Judgement
from meta_train.host import parallel
from meta_train.host import progress
from meta_train.host.counted import counted
from meta_train.tasks.base import Task


def judge_suite(
    chosen: Sequence[Task], contenders: Mapping[str, Contender], *, horizons: Sequence[int], num_seeds: int, **rest: Any
) -> dict[int, dict[str, Judgement]]:
    """Judges optimizers on tasks, with a progress bar. Prints the table of a task as soon as the task is done.

    Args:
      chosen: the tasks.
      contenders, horizons, num_seeds, **rest: what `protocol.judge` takes.

    Returns:
      For each horizon a `Judgement` for each task by name, in the order given.

    Raises:
      Whatever judging a task raises, at once; see `parallel.over_devices`.
    """
    judged = {}
    with progress.bar(len(chosen), unit="task") as bar:

        def work(task, stop_here):
            def tell(line):
                stop_here()
                bar.set_description(line)

            return protocol.judge(task, contenders, horizons=horizons, num_seeds=num_seeds, progress=tell, **rest)

        for task, found in parallel.over_devices(work, chosen):
            judged[task.name] = found
            for steps, at in found.items():
                table = report.table([*at.contenders, *at.baselines])
                title = f"{task.name}, {counted(steps, 'step')}, {counted(num_seeds, 'seed')}"
                bar.write(f"\n{title}\n{table}", file=sys.stdout)
            bar.update()
    return {steps: {task.name: judged[task.name][steps] for task in chosen} for steps in sorted(set(horizons))}
