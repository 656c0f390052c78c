"""`adapt`: an optimizer of your own for your own model, in minutes."""

from collections.abc import Sequence
import os
import pathlib
from typing import Any
from typing import NamedTuple

import jax.flatten_util
import numpy as np

from learned_optim import LearnedOptimizer
from meta_train.adaptation import calibration
from meta_train.adaptation import card
from meta_train.adaptation import choice
from meta_train.adaptation import entry_checks
from meta_train.adaptation import objective as objectives
from meta_train.adaptation import opening
from meta_train.adaptation import outcome
from meta_train.adaptation import plan as plans
from meta_train.adaptation import search as searching
from meta_train.adaptation import setup as setups
from meta_train.adaptation import verdict as verdicts
from meta_train.adaptation.clock import Clock
from meta_train.adaptation.journal import Journal
from meta_train.adaptation.plan import Plan
from meta_train.adaptation.setup import Setup
from meta_train.adaptation.trainings import Trainings
from meta_train.evaluation.bench import NUM_MARKS
from meta_train.host.progress import TellFn
from meta_train.tasks.base import Task

RIVALS = ("adamw-cosine", "muon")
NUM_STEPS = 1000
KEPT = "verdict"  # folder of the trainings for the verdict, in that of the run


class Adapted(NamedTuple):
    """What `adapt` returns.

    Fields:
      optimizer: the architecture; `optimizer.transform(theta, num_steps=…)` is an optax transformation.
      theta: adapted, or the default's if there is no gain.
      report: all figures, as JSON values; `report["gain"]` says whether there is a gain.
    """

    optimizer: LearnedOptimizer
    theta: Any
    report: dict[str, Any]


def adapt(
    task: Task | str | os.PathLike[str],
    *,
    minutes: float = 10.0,
    num_steps: int = NUM_STEPS,
    objective: str | None = None,
    rivals: Sequence[str] = RIVALS,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    seed: int = 0,
    quiet: bool = True,
    command: str | None = None,
    progress: TellFn = lambda line: None,
) -> Adapted:
    """Adapts the default optimizer to one model.

    The default, `adaptive-muon-scanned-v1`, has 38 constants. Whole trainings of the model with other constants are
    made side by side: first each constant is moved by itself, then CMA-ES searches around the best combination. What
    part of the way to take is chosen on other seeds, and the verdict is on others again, beside tuned rivals.

    Args:
      task: the model, from `tasks.from_functions` or `tasks.get`, or the path of a file as `tasks.from_file` takes it.
      minutes: how long everything may take, the verdict included.
      num_steps: steps of the trainings that the optimizer is made for.
      objective: "held-out", the held-out loss after the last step, or "training", the mean training loss over the last
        tenth of the steps. None: "held-out" if the task has held-out data, since a training loss can always be lowered
        by less decay of the weights; else "training".
      rivals: baselines that are tuned for the verdict, names from `evaluation.baselines`; may be empty.
      out: folder for `theta.safetensors`, `card.md`, `report.json`, `curves.png`, the journal and the trainings for the
        verdict; None writes nothing.
      resume: whether to go on with a run in the folder that was stopped, there or on another machine.
      seed: of the search.
      quiet: whether to show no progress bar.
      command: the command to repeat it, for the card.
      progress: called with a line of text about what was chosen and found.

    Returns:
      An `Adapted`. If there is no gain, its theta is that of the default, and the folder has no `theta.safetensors`.

    Raises:
      ValueError: if the task cannot be adapted to, an argument is out of range, the minutes are too few, or the folder
        holds a run with other settings.
      KeyboardInterrupt: on Ctrl-C. With `out`, what was measured is kept, and `resume=True` goes on from there.

    Example:
      >>> from meta_train import adapt, tasks
      >>> adapted = adapt(tasks.get("quadratic"), minutes=3, num_steps=100)  # doctest: +SKIP
      >>> tx = adapted.optimizer.transform(adapted.theta, num_steps=100)  # doctest: +SKIP
    """
    setups.check(minutes, num_steps, objective, rivals)
    with opening.opened(
        task,
        lambda task: setups.set_up(task, num_steps, objective, tuple(rivals)),
        {"rivals": list(rivals), "seed": seed},
        what="an adaptation",
        minutes=minutes,
        num_steps=num_steps,
        out=out,
        resume=resume,
        quiet=quiet,
        progress=progress,
    ) as run:
        report, theta, verdict = _work(run.setup, run.journal, run.timer, minutes, seed, out, progress)
    report |= opening.facts(run, minutes=minutes, seed=seed, command=command, out=out)
    if out is not None:
        for path in card.write(out, run.setup.optimizer, theta, report, verdict):
            progress(f"Wrote {path}")
    return Adapted(run.setup.optimizer, theta, report)


def _work(setup: Setup, journal: Journal, timer: Clock, minutes: float, seed: int, out: Any, progress: TellFn):
    """All phases. Returns the report, theta and the verdict."""
    timer.tell("measuring how long a step takes")
    pace, trainings = calibration.calibrate(
        setup.task,
        setup.optimizer,
        setup.theta,
        setup.num_steps,
        journal,
        minutes,
        check=lambda made: _check_first_steps(setup, made),
    )
    made = journal.recall(
        "plan", lambda: plans.choose(minutes, journal.seconds(), setup.num_steps, setup.rivals, pace)._asdict()
    )
    plan = Plan(**{**made, "size": plans.Size(*made["size"])})
    progress(f"Chosen for {minutes:g} minutes: {plans.as_text(plan, setup.num_steps)}.")
    measure = objectives.measurer(trainings, setup.space, setup.objective, setup.search_data, setup.scale)
    at_a_time = pace.devices * trainings.width  # of the machine where the run began: it shapes the generations
    found = searching.search(measure, journal, plan, timer, at_a_time=at_a_time, until=plan.verdict_seconds, seed=seed)
    timer.tell("choosing what part of the way to take")
    named = choice.candidates(found.points)
    values = journal.recall(
        "choice", lambda: choice.measured(measure, named, plan.size.choice_seeds, setup.num_steps).tolist()
    )
    candidates = choice.judged(named, np.array(values))
    chosen = choice.best(candidates)
    point = min(candidates, key=lambda each: each.change).point if chosen is None else chosen.point
    point = np.array(journal.recall("point", point.tolist))
    verdict = _judge(setup, trainings, plan, point, journal, timer, None if out is None else pathlib.Path(out) / KEPT)
    timer.tell("done")
    report = outcome.as_report(
        setup,
        plan=plan,
        pace=pace,
        width=trainings.width,
        found=found,
        candidates=candidates,
        chosen=chosen,
        verdict=verdict,
    )
    return report, setup.raveled(point if report["gain"] else np.zeros_like(point)), verdict


def _check_first_steps(setup, trainings):
    flat, _ = jax.flatten_util.ravel_pytree(setup.theta)
    entry_checks.check_first_steps(setup.task, trainings, np.asarray(flat), setup.num_steps, setup.search_data)


def _judge(
    setup: Setup,
    trainings: Trainings,
    plan: Plan,
    point: np.ndarray,
    journal: Journal,
    timer: Clock,
    folder: pathlib.Path | None,
):
    """The verdict on a point. A search that found nothing has one too, so that it is told with figures."""
    steps, seeds, data = setup.num_steps, plan.size.num_seeds, setup.task.data
    marks = sorted({max(1, steps * k // NUM_MARKS) for k in range(1, NUM_MARKS + 1)}) if setup.halved else [steps]
    timer.tell("verdict: the default and the adapted optimizer")
    results = verdicts.own_results(trainings, setup.space, point, seeds, data, marks, folder=folder)
    shorter = verdicts.told_fewer(
        trainings,
        setup.space,
        point,
        steps,
        seeds,
        data,
        rungs=plan.size.rungs,
        objective=setup.objective,
        scale=setup.scale,
        journal=journal,
    )
    names = setup.rivals if plan.size.learning_rates else ()
    if names:
        tell = lambda line: timer.tell(f"verdict: {line}")
        results += verdicts.rivals(
            setup.whole, names, steps, plan.size, halves=setup.halved, folder=folder, progress=tell
        )
    milliseconds = verdicts.times(setup.task, setup.optimizer, setup.theta, names, results, timer.tell)
    gain, to_target = verdicts.gain(results, shorter, steps, objective=setup.objective, scale=setup.scale)
    return verdicts.Verdict(results, gain, to_target, milliseconds)
