"""`tune`: schedules of learning rate, momentum and weight decay for your own model, beside the best constants."""

from collections.abc import Sequence
import os
from typing import Any
from typing import NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax

from meta_train.adaptation import calibration
from meta_train.adaptation import choice
from meta_train.adaptation import entry_checks
from meta_train.adaptation import objective as objectives
from meta_train.adaptation import opening
from meta_train.adaptation import verdict as verdicts
from meta_train.adaptation.clock import Clock
from meta_train.adaptation.journal import Journal
from meta_train.adaptation.objective import HELD_OUT
from meta_train.adaptation.objective import Space
from meta_train.evaluation.bench import NUM_MARKS
from meta_train.host.progress import TellFn
from meta_train.problems.hyperparameters import HyperTheta
from meta_train.problems.hyperparameters import Schedules
from meta_train.problems.hyperparameters import hyper_theta
from meta_train.problems.hyperparameters import schedules
from meta_train.tasks.base import Task
from meta_train.tasks.user_model import has_held_out
from meta_train.tuning import descent
from meta_train.tuning import grid
from meta_train.tuning import outcome
from meta_train.tuning import plan as plans
from meta_train.tuning import setup as setups
from meta_train.tuning.scheduled_sgd import scheduled_sgd
from meta_train.tuning.setup import Setup

NUM_STEPS, NUM_BLOCKS = 1000, 10
CONSTANTS, SCHEDULES = "constants", "schedules"


class Tuned(NamedTuple):
    """What `tune` returns.

    Fields:
      schedules: float32[blocks] each; the best constants, repeated, if there is no gain.
      theta: the same as meta-parameters.
      num_steps: of the trainings that they are for.
      report: all figures, as JSON values; `report["gain"]` says whether there is a gain.
    """

    schedules: Schedules
    theta: HyperTheta
    num_steps: int
    report: dict[str, Any]

    def transform(self) -> optax.GradientTransformationExtraArgs:
        """The optax transformation: SGD with these schedules, which gives final updates and needs params."""
        optimizer = scheduled_sgd(len(self.theta.learning_rate))
        return optimizer.transform(self.theta, num_steps=self.num_steps)


def tune(
    task: Task | str | os.PathLike[str],
    *,
    minutes: float = 10.0,
    num_steps: int = NUM_STEPS,
    num_blocks: int = NUM_BLOCKS,
    objective: str | None = None,
    way: str = "backprop",
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    seed: int = 0,
    quiet: bool = True,
    command: str | None = None,
    progress: TellFn = lambda line: None,
) -> Tuned:
    """Learns schedules of learning rate, momentum and weight decay for SGD on one model.

    First a grid of constant settings is tried. From the best one on, the final loss of whole trainings is
    differentiated with respect to the schedules, and Adam follows. Which schedules to take, if any, is chosen on other
    seeds, and the verdict beside the constants is on others again.

    Args:
      task: the model, from `tasks.from_functions` or `tasks.get`, or the path of a file as `tasks.from_file` takes it.
      minutes: how long everything may take, the verdict included.
      num_steps: steps of the trainings that the schedules are for.
      num_blocks: values of each schedule; each holds for an equal share of the steps.
      objective: "held-out", the held-out loss after the last step, or "training", the mean training loss over the last
        tenth of the steps. None: "held-out" if the task has held-out data.
      way: "backprop", in memory that grows with the root of num_steps, or "forward", in memory that does not grow with
        it and time that grows with num_blocks. Both give the same.
      out: folder for `schedule.json`, `schedule.png`, `report.json` and the journal; None writes nothing.
      resume: whether to go on with a run in the folder that was stopped.
      seed: of the trainings that are differentiated.
      quiet: whether to show no progress bar.
      command: the command to repeat it, for the report.
      progress: called with a line of text about what was chosen and found.

    Returns:
      A `Tuned`. If there is no gain, it holds the best constants, and the folder has no `schedule.json`.

    Raises:
      ValueError: if the task cannot be tuned for, an argument is out of range, the minutes are too few, or the folder
        holds a run with other settings.
      KeyboardInterrupt: on Ctrl-C. With `out`, what was measured is kept, and `resume=True` goes on from there.

    Example:
      >>> from meta_train import tasks, tune
      >>> tuned = tune(tasks.get("digits-mlp"), minutes=5, num_steps=500)  # doctest: +SKIP
      >>> tx = tuned.transform()  # doctest: +SKIP

    References:
      Micaelli, Storkey 2020, https://arxiv.org/abs/2007.07869
    """
    setups.check(minutes, num_steps, num_blocks, objective, way)
    with opening.opened(
        task,
        lambda task: setups.set_up(task, num_steps, num_blocks, objective, way),
        {"command": "tune", "num_blocks": num_blocks, "way": way, "seed": seed},
        what="a tuning",
        minutes=minutes,
        num_steps=num_steps,
        out=out,
        resume=resume,
        quiet=quiet,
        progress=progress,
    ) as run:
        found = _work(run.setup, run.journal, run.timer, minutes, seed, progress)
    report = found.report | opening.facts(run, minutes=minutes, seed=seed, command=command, out=out)
    theta = HyperTheta(*np.asarray(found.point, np.float32).reshape(3, num_blocks))
    values = Schedules(*(np.asarray(leaf) for leaf in schedules(theta)))
    if out is not None:
        for path in outcome.write(out, values, found.tried, found.results, report):
            progress(f"Wrote {path}")
    return Tuned(values, theta, num_steps, report)


class _Found(NamedTuple):
    """What `_work` found."""

    point: np.ndarray  # raveled schedules
    tried: Schedules  # those that the verdict is on, which may be no gain
    results: Sequence[Any]
    report: dict[str, Any]


def _work(setup: Setup, journal: Journal, timer: Clock, minutes: float, seed: int, progress: TellFn) -> _Found:
    """All phases."""
    timer.tell("measuring how long a step takes")
    size, optimizer = 3 * setup.num_blocks, scheduled_sgd(setup.num_blocks)
    careful: Any = hyper_theta(learning_rate=1e-4, momentum=0.0, num_blocks=setup.num_blocks)
    flat = np.asarray(jax.flatten_util.ravel_pytree(careful)[0])
    pace, trainings = calibration.calibrate(
        setup.task,
        optimizer,
        careful,
        setup.num_steps,
        journal,
        minutes,
        check=lambda made: entry_checks.check_first_steps(
            setup.task, made, flat, setup.num_steps, setup.search_data, optimizer="SGD at a learning rate of 1e-4"
        ),
    )
    kept = journal.recall("plan", lambda: plans.choose(minutes, journal.seconds(), setup.num_steps, pace)._asdict())
    plan = plans.Plan(**{**kept, "size": plans.Size(*kept["size"])})
    progress(f"Chosen for {minutes:g} minutes: {plans.as_text(plan)}.")
    scale = float(setup.task.scale)
    measurer = lambda origin: objectives.measurer(
        trainings, Space(origin, np.eye(size)), setup.objective, setup.search_data, scale
    )
    timer.tell("the grid of constant settings")
    constants = grid.search(
        measurer(np.zeros(size)), journal, plan.size.num_settings, setup.num_steps, setup.num_blocks
    )
    progress(f"Best constants: {outcome.setting_text(constants.setting)}.")
    find = descent.hypergradients(
        setup.task,
        setup.search_data,
        setup.num_steps,
        setup.num_blocks,
        held_out=setup.objective == HELD_OUT,
        way=setup.way,
    )
    path = descent.descend(
        find,
        descent.calmer(constants.theta),
        journal,
        timer,
        seeds=plan.hypergradient_seeds,
        until=plan.last_seconds,
        seed=seed,
    )
    timer.tell("choosing schedules")
    named = {name: point - constants.theta for name, point in descent.candidates(path.points).items()}
    measure = measurer(constants.theta)
    values = journal.recall(
        "choice", lambda: choice.measured(measure, named, plan.size.choice_seeds, setup.num_steps).tolist()
    )
    judged = choice.judged(named, np.array(values))
    chosen = choice.best(judged)
    best = min(judged, key=lambda each: each.change)
    timer.tell("verdict: the constants and the schedules")
    results = _judge(setup, trainings, constants.theta, best.point, plan.size.num_seeds)
    gain, to_target = verdicts.gain(results, {}, setup.num_steps, objective=setup.objective, scale=scale)
    gained = chosen is not None and gain.sure
    report = outcome.as_report(
        name=setup.task.name,
        objective=setup.objective,
        num_steps=setup.num_steps,
        has_held_out=has_held_out(setup.whole),
        gained=gained,
        constants=constants,
        path=path,
        way=setup.way,
        judged=judged,
        chosen=chosen,
        results=results,
        gain=gain,
        steps=to_target,
    )
    timer.tell("done")
    point = constants.theta + best.point
    tried = schedules(HyperTheta(*jnp.asarray(point, jnp.float32).reshape(3, setup.num_blocks)))
    return _Found(point if gained else constants.theta, Schedules(*map(np.asarray, tried)), results, report)


def _judge(setup, trainings, origin, move, num_seeds):
    """Results of the constants and of the schedules."""
    steps, data = setup.num_steps, setup.task.data
    marks = [steps]
    if has_held_out(setup.whole):
        marks = sorted({max(1, steps * k // NUM_MARKS) for k in range(1, NUM_MARKS + 1)})
    results = verdicts.own_results(trainings, Space(origin, np.eye(len(origin))), move, num_seeds, data, marks)
    return [result._replace(optimizer=name) for result, name in zip(results, (CONSTANTS, SCHEDULES), strict=True)]
