"""Trains tasks with learned and hand-designed optimizers, and measures the results."""

from collections.abc import Mapping
from collections.abc import Sequence
import math
import time
from typing import Any
from typing import NamedTuple

import jax
import numpy as np
import optax

from meta_train.evaluation import lanes
from meta_train.evaluation import tuning
from meta_train.evaluation.lanes import JudgedParamsFn
from meta_train.evaluation.lanes import Lanes
from meta_train.evaluation.side_by_side import num_lanes
from meta_train.host.progress import TellFn
from meta_train.tasks.base import Task


class Along(NamedTuple):
    """Held-out metrics along the way."""

    marks: np.ndarray  # int32[marks], increasing numbers of steps, the last one that of the whole run
    held_out: dict[str, np.ndarray]  # each float32[marks, seeds]


class Result(NamedTuple):
    """Training runs of one optimizer on one task."""

    optimizer: str
    losses: np.ndarray  # float32[seeds, num_steps], training loss of each step's minibatch before the update
    held_out: dict[str, np.ndarray]  # each float32[seeds], what the task's `evaluate` gives after the last step
    learning_rate: float | None = None  # if one was tuned
    step_milliseconds: float = math.nan  # wall-clock time of a step of all seeds together, without compilation
    state_bytes: int = 0  # of the optimizer's state, of one seed
    hyperparameters: dict[str, float] | None = None  # if they were tuned by trials, the learning rate among them
    along: Along | None = None  # if metrics were taken on the way
    at_edge: bool = False  # whether the learning rate is the first or the last of the grid that it was tuned over

    @property
    def plain_name(self) -> str:
        """The optimizer's name without the learning rate that was tuned for the task."""
        rate = "" if self.learning_rate is None else f"{self.learning_rate:.3g} "
        return self.optimizer.replace(f" {rate}(", " (")

    @property
    def source(self) -> str:
        """What ran: the name of the optimizer or baseline, without how its hyperparameters were chosen."""
        return self.plain_name.replace(", held out)", ")")

    @property
    def final_losses(self) -> np.ndarray:
        """float32[seeds]: mean training loss over the last tenth of the steps; infinite where it is NaN."""
        return lanes.final_losses(self.losses)

    @property
    def held_out_losses(self) -> np.ndarray:
        """float[seeds]: held-out loss after the last step; infinite where it is NaN."""
        return _or_infinite(self.held_out["loss"])

    @property
    def errors(self) -> np.ndarray | None:
        """float[seeds]: held-out share of examples with a wrong answer. None if the task has no accuracy or error."""
        if "error" in self.held_out:
            return _or_infinite(self.held_out["error"])
        return 1.0 - np.asarray(self.held_out["accuracy"], np.float64) if "accuracy" in self.held_out else None

    @property
    def best_held_out_losses(self) -> np.ndarray | None:
        """float[seeds]: the lowest held-out loss along the way, None if none was taken."""
        return None if self.along is None else _or_infinite(self.along.held_out["loss"]).min(axis=0)


_HELD_OUT = "held_out/"  # before the name of a metric, among the arrays of `Curves.to_arrays`


class Curves(NamedTuple):
    """Training runs with held-out metrics at several numbers of steps, the marks."""

    marks: np.ndarray  # int32[marks], increasing
    losses: np.ndarray  # float32[seeds, marks[-1]], as in `Result`
    held_out: dict[str, np.ndarray]  # each float32[marks, seeds]
    step_milliseconds: float
    state_bytes: int

    def until(self, num_steps: int, name: str, learning_rate: float | None = None, along: Sequence[int] = ()) -> Result:
        """The beginning of the runs, up to one of the marks. `along`: the marks up to it whose metrics are kept too."""
        (places,) = np.nonzero(np.isin(self.marks, [*along, num_steps]))
        kept = {metric: values[places] for metric, values in self.held_out.items()}
        return Result(
            name,
            self.losses[:, :num_steps],
            {metric: values[-1] for metric, values in kept.items()},
            learning_rate,
            self.step_milliseconds,
            self.state_bytes,
            along=Along(self.marks[places], kept) if along else None,
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The fields as arrays with flat names, such as a `.npz` file holds."""
        fields = {name: np.asarray(value) for name, value in self._asdict().items() if name != "held_out"}
        return fields | {f"{_HELD_OUT}{metric}": values for metric, values in self.held_out.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Curves":
        """The inverse of `to_arrays`."""
        return cls(
            marks=arrays["marks"],
            losses=arrays["losses"],
            held_out={name.removeprefix(_HELD_OUT): x for name, x in arrays.items() if name.startswith(_HELD_OUT)},
            step_milliseconds=float(arrays["step_milliseconds"]),
            state_bytes=int(arrays["state_bytes"]),
        )


def run(
    task: Task,
    tx: optax.GradientTransformation,
    *,
    num_steps: int,
    num_seeds: int,
    name: str = "",
    judged: JudgedParamsFn | None = None,
) -> Result:
    """Trains a task from several seeds with one optimizer.

    A seed fixes the task's draw, the initial parameters and the minibatches: they are the same for every optimizer, and
    a run is the beginning of a longer one.

    Args:
      task: what to train.
      tx: any optax transformation with final updates; it gets the loss as `value=`.
      num_steps: updates to make.
      num_seeds: independent runs, made side by side.
      name: what to call the optimizer in the result.
      judged: `(optimizer's state, params) -> params` whose losses are reported, for optimizers that take gradients
        elsewhere, such as Schedule-Free ones. None: the parameters themselves.

    Raises:
      ValueError: if num_steps or num_seeds is below 1.

    Example:
      >>> import optax
      >>> from meta_train import tasks
      >>> result = run(tasks.get("quadratic"), optax.sgd(0.1), num_steps=30, num_seeds=2)
      >>> result.losses.shape
      (2, 30)
    """
    if num_steps < 1 or num_seeds < 1:
        raise ValueError(f"num_steps and num_seeds must be at least 1, got {num_steps} and {num_seeds}.")
    width = num_lanes(task, num_seeds, tuned=False)
    program = lanes.build(task, lambda rate, num_steps: tx, width=width, size=num_steps, judged=judged)
    curves = measure(program, marks=(num_steps,), num_steps=num_steps, num_seeds=num_seeds)
    return curves.until(num_steps, name)


def measure(
    program: Lanes, *, marks: Sequence[int], num_steps: int, num_seeds: int, hyperparameters: Any = 0.0
) -> Curves:
    """Runs the first seeds of those for results, all with the same optimizer, and takes the time.

    Args:
      program: from `lanes.build`. If it has fewer lanes than there are seeds, it runs several times.
      marks: increasing numbers of steps at which held-out metrics are taken; the last one is the length of the runs.
      num_steps: the number of steps that the optimizer is told.
      num_seeds: independent runs.
      hyperparameters: what the optimizer is made with: a learning rate, or a pytree with the program's structure.
    """
    width = program.width
    rounds = -(-num_seeds // width)
    keys = lanes.keys(rounds * width, lanes.REPORT)
    starts = [jax.block_until_ready(program.begin(keys[i * width : (i + 1) * width])) for i in range(rounds)]
    program.compile()
    began = time.perf_counter()
    lane_values = jax.tree.map(lambda x: np.full(width, x), hyperparameters)
    found = [program.train(lane_values, start, marks, num_steps) for start in starts]
    milliseconds = 1e3 * (time.perf_counter() - began) / marks[-1]
    losses = np.concatenate([losses for losses, _ in found])[:num_seeds]
    held_out = {
        metric: np.concatenate([metrics[metric] for _, metrics in found], axis=1)[:, :num_seeds]
        for metric in found[0][1]
    }
    return Curves(np.asarray(marks), losses, held_out, milliseconds, program.state_bytes())


def compare(
    task: Task,
    optimizers: Mapping[str, optax.GradientTransformation],
    *,
    num_steps: int,
    num_seeds: int = 5,
    progress: TellFn = lambda line: None,
) -> list[Result]:
    """Runs optimizers beside Adam at 1e-3 and Adam with the best learning rate of a grid, on the same seeds.

    Args:
      task: what to train.
      optimizers: names and transformations.
      num_steps: updates to make.
      num_seeds: independent runs of each.
      progress: called with a line of text before each piece of work.

    Returns:
      A `Result` for each optimizer in the order given, then "Adam 1e-3", then "Adam RATE (tuned)".
    """
    results = []
    for name, tx in {**optimizers, "Adam 1e-3": optax.adam(1e-3)}.items():
        progress(f"{task.name}: {name}")
        results.append(run(task, tx, num_steps=num_steps, num_seeds=num_seeds, name=name))
    progress(f"{task.name}: tuning Adam over {len(tuning.LEARNING_RATES)} learning rates")
    width = num_lanes(task, num_seeds, tuned=True)
    program = lanes.build(task, lambda rate, num_steps: optax.adam(rate), width=width, size=num_steps)
    rate = tuning.tune(program, horizons=(num_steps,), learning_rates=tuning.LEARNING_RATES)[num_steps]
    curves = measure(program, marks=(num_steps,), num_steps=num_steps, num_seeds=num_seeds, hyperparameters=rate)
    result = curves.until(num_steps, f"Adam {rate:.3g} (tuned)", rate)
    return [*results, result._replace(at_edge=rate in (tuning.LEARNING_RATES[0], tuning.LEARNING_RATES[-1]))]


def _or_infinite(values):
    values = np.asarray(values)
    return np.where(np.isnan(values), np.inf, values)
