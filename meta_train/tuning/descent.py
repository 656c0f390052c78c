"""Descent on schedules along hypergradients of whole trainings.

At the rates that train fastest, training is chaotic: derivatives with respect to early steps are large and differ from
seed to seed, those with respect to late ones are small and agree. So a training's derivative counts by its signs alone,
as in Micaelli, Storkey 2020 (https://arxiv.org/abs/2007.07869), and the trainings vote: a number moves as far as they
agree about it.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from meta_train import estimators
from meta_train.adaptation.clock import Clock
from meta_train.adaptation.journal import Journal
from meta_train.host import parallel
from meta_train.problems.hyperparameters import HyperTheta
from meta_train.problems.hyperparameters import hyperparameters
from meta_train.problems.task_bilevel import task_bilevel
from meta_train.tasks.base import Task
from meta_train.unroll import truncation

_STREAM = 0x5EED0006  # of random keys, beside those of `adaptation.trainings` and `evaluation.lanes`
_RATE = 0.15  # in units of logarithms, of a step that all trainings agree on; it falls to a fifth
_DECAY = 0.8  # of the mean of votes
MOST = 60  # steps
WAYS = {"backprop": estimators.full_backprop, "forward": estimators.forward_mode}


class Path(NamedTuple):
    """The way of the descent.

    Fields:
      points: float64[1 + steps, numbers], raveled schedules, the first ones first.
      losses: float[steps], mean final loss of each step's trainings, NaN where all diverged.
      seeds: trainings of each step.
      seconds: of the last step that was made and not read from the journal.
    """

    points: np.ndarray
    losses: np.ndarray
    seeds: int
    seconds: float


def hypergradients(
    task: Task, data: Any, num_steps: int, num_blocks: int, *, held_out: bool, way: str
) -> Callable[[np.ndarray, range], tuple[np.ndarray, np.ndarray]]:
    """Builds the function that differentiates the final loss of trainings, each on the device that is free.

    Args:
      task: what to train.
      data: for its data.
      num_steps: of a training.
      num_blocks: of each schedule.
      held_out: whether the final loss is the held-out one; else it is the training loss of the last tenth of the steps.
      way: a name of `WAYS`.

    Returns:
      `(point float[numbers], seeds) -> (losses float[seeds], gradients float[seeds, numbers])`.
    """
    bilevel = task_bilevel(task._replace(data=data), held_out=held_out)
    counted = 1 if held_out else max(1, num_steps // 10)
    problem = hyperparameters(bilevel, num_steps=num_steps, num_counted=counted)
    estimator = WAYS[way](problem, num_particles=1, horizon=truncation.constant(num_steps))
    like = HyperTheta(*(jnp.zeros(num_blocks, jnp.float32) for _ in HyperTheta._fields))
    _, unravel = jax.flatten_util.ravel_pytree(like)

    @jax.jit
    def gradient(key, flat, data):
        theta = unravel(flat)
        found, _, info = estimator.estimate(key, theta, estimator.init(key, theta), data)
        return info.loss, jax.flatten_util.ravel_pytree(found)[0]

    def find(point, seeds):
        def work(seed, stop_here):
            stop_here()
            key = jax.random.fold_in(jax.random.key(_STREAM), seed)
            return jax.tree.map(np.asarray, gradient(key, jnp.asarray(point, jnp.float32), data))

        found = dict(parallel.over_devices(work, list(seeds)))
        return np.stack([found[seed][0] for seed in seeds]), np.stack([found[seed][1] for seed in seeds])

    return find


def descend(
    find: Callable[[np.ndarray, range], tuple[np.ndarray, np.ndarray]],
    start: np.ndarray,
    journal: Journal,
    clock: Clock,
    *,
    seeds: int,
    until: float,
    seed: int,
    most: int | None = None,
) -> Path:
    """Moves schedules by the votes of trainings.

    Where all trainings of a step diverge, half of the last move is taken back.

    Args:
      find: of `hypergradients`.
      start: where to begin.
      journal: keeps the gradients.
      clock: shows what is done.
      seeds: trainings of a step.
      until: seconds that must be left at the end.
      seed: of the first training.
      most: steps, at most; None for `MOST`.
    """
    points, losses, took = [np.asarray(start, np.float64)], [], 0.0
    mean = np.zeros(len(start))
    planned, step = most or MOST, 0
    while step < planned:
        name, began = f"hypergradient {step + 1}", journal.seconds()
        if not journal.knows(name):
            if clock.left() - until < took:
                break
            clock.tell(f"{name} of about {planned}" if step > 1 else name)
        first = 2**16 * seed + step * seeds
        point = points[-1]
        kept = journal.recall(name, lambda p=point, f=first: _as_json(*find(p, range(f, f + seeds))))
        took = journal.seconds() - began
        losses.append(np.nan if kept["loss"] is None else kept["loss"])
        step += 1
        if step == 2:  # the first one compiles
            fitting = lambda took=took: int(max(1.0, (clock.left() - until) / max(took, 1e-3))) + 2
            planned = min(planned, journal.recall("hypergradients", fitting))
        if kept["votes"] is None:
            points.append((point + points[max(0, len(points) - 2)]) / 2)
            continue
        mean = _DECAY * mean + (1 - _DECAY) * np.array(kept["votes"])
        rate = _RATE * (1 - 0.8 * (step - 1) / max(1, planned - 1))
        points.append(point - rate * mean / (1 - _DECAY**step))
    return Path(np.stack(points), np.array(losses), seeds, took)


def calmer(point: np.ndarray) -> np.ndarray:
    """Schedules with a third of the rates: a descent that begins where training is chaotic finds no way out of it.

    Example:
      >>> calmer(np.zeros(3)).round(2).tolist()
      [-1.1, 0.0, 0.0]
    """
    found = np.array(point, np.float64)
    found[: len(found) // 3] -= np.log(3.0)
    return found


def candidates(points: np.ndarray) -> dict[str, np.ndarray]:
    """Schedules that are worth a choice: on the way of the descent, at its end, and the mean of its last third.

    Example:
      >>> list(candidates(np.zeros((10, 3))))
      ['step 3', 'step 6', 'step 9', 'mean of steps 6 to 9']
    """
    last = len(points) - 1
    found = {
        f"step {step}": points[step]
        for step in sorted({max(1, last * k // 3) for k in (1, 2, 3)} & {*range(len(points))})
    }
    first = max(1, last * 2 // 3)
    if last > first:
        found[f"mean of steps {first} to {last}"] = points[first:].mean(axis=0)
    return found or {"step 0": points[0]}


def _as_json(losses, gradients):
    """The mean loss and the mean sign over the trainings that did not diverge."""
    fine = np.isfinite(losses) & np.isfinite(gradients).all(axis=1) & (gradients != 0).any(axis=1)
    if not fine.any():
        return {"loss": None, "votes": None}
    return {"loss": float(losses[fine].mean()), "votes": np.sign(gradients[fine]).mean(axis=0).tolist()}
