"""Tunes baselines for a task, in two rounds: their learning rates on a grid, or all their hyperparameters by trials.

Running every candidate with all seeds would be most of the cost of an evaluation, and most of that would go to rates
that two seeds show to be far off. So all candidates first get two seeds. Then four get the other seeds as well: on a
grid the best, its neighbors, and the next best; of trials the best four. With nineteen rates and eight seeds, that is
62 runs instead of 152. The lowest mean final training loss over all seeds wins, and if there are data to choose by
held-out loss, the lowest mean held-out loss wins a second choice.

An optimizer that is not told the number of steps is tuned for all horizons in one sweep, whose runs are as long as the
longest horizon: a shorter run is the beginning of a longer one. The rounds are made for each horizon and each kind of
loss by itself, so each gets the candidate that it would get alone.
"""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import numpy as np

from meta_train.evaluation import lanes
from meta_train.evaluation.baselines import LEARNING_RATES
from meta_train.evaluation.lanes import Lanes
from meta_train.host.progress import TellFn

NUM_SEEDS = 8  # of each candidate that remains
NUM_SCOUTS = 2  # of these seeds, with which all candidates are tried
NUM_FINALISTS = 4  # candidates that remain, on a grid the best one's neighbors among them
MIN_LANES = 5  # with fewer side by side, small tasks are tuned more slowly


def tune(
    program: Lanes,
    *,
    horizons: Sequence[int],
    scheduled: bool = False,
    num_seeds: int = NUM_SEEDS,
    learning_rates: Sequence[float] = LEARNING_RATES,
    progress: TellFn = lambda line: None,
) -> dict[int, float]:
    """Returns the best learning rate for each horizon, on seeds that no result is reported on.

    Args:
      program: from `lanes.build`, of any width.
      horizons: numbers of updates to make; the best rate depends on them.
      scheduled: whether the optimizer depends on num_steps, so that each horizon needs runs of its own.
      num_seeds: runs of each rate that is left after the first two, whose final losses are averaged.
      learning_rates: the grid, in increasing order. By default three a decade from 1e-5 to 10.
      progress: called with a line of text before each piece of work.

    Example:
      >>> import optax
      >>> from meta_train import tasks
      >>> sgd = lanes.build(tasks.get("quadratic"), lambda rate, num_steps: optax.sgd(rate), width=4, size=30)
      >>> tune(sgd, horizons=(10, 30), learning_rates=(1e-6, 0.1))
      {10: 0.1, 30: 0.1}
    """
    found = choose(
        program,
        learning_rates,
        horizons=horizons,
        scheduled=scheduled,
        ordered=True,
        num_seeds=num_seeds,
        progress=progress,
    )
    return {steps: float(learning_rates[choice.training]) for steps, choice in found.items()}


class Choice(NamedTuple):
    """The best candidates for one horizon."""

    training: int  # index of the one with the lowest final training loss
    held_out: int | None  # of the one with the lowest held-out loss after the last step, if there were data for it


def choose(
    program: Lanes,
    candidates: Sequence[Any],
    *,
    horizons: Sequence[int],
    scheduled: bool,
    ordered: bool,
    num_seeds: int = NUM_SEEDS,
    data: Any = None,
    progress: TellFn = lambda line: None,
) -> dict[int, Choice]:
    """Returns the best candidates for each horizon, on seeds that no result is reported on.

    Args:
      program: from `lanes.build`, of any width; with data, it takes held-out metrics at least once for each horizon.
      candidates: hyperparameters, all of the structure that the program has.
      horizons, scheduled, num_seeds, progress: as of `tune`.
      ordered: whether candidates beside each other are alike, as on a grid, so that the best one's neighbors remain.
      data: like the task's, with the held-out part to choose by. None: no choice by held-out loss.

    Example:
      >>> import optax
      >>> from meta_train import tasks
      >>> task = tasks.get("quadratic")
      >>> sgd = lanes.build(task, lambda rate, num_steps: optax.sgd(rate), width=4, size=30)
      >>> choose(sgd, (1e-6, 0.1), horizons=(30,), scheduled=False, ordered=True, data=task.data)
      {30: Choice(training=1, held_out=1)}
    """
    sweeps = [(steps,) for steps in horizons] if scheduled else [tuple(horizons)]
    keys = lanes.keys(num_seeds, lanes.TUNE)
    found = {}
    for sweep in sweeps:

        def measure(pairs, sweep=sweep):
            return _final_losses(program, candidates, keys, pairs, sweep, data, progress)

        winners = _narrow(measure, len(candidates), num_seeds, ordered)
        by_training, by_held_out = winners[: len(sweep)], winners[len(sweep) :] or [None] * len(sweep)
        found |= {each[0]: Choice(*each[1:]) for each in zip(sweep, by_training, by_held_out, strict=True)}
    return found


def _final_losses(program, candidates, keys, pairs, horizons, data, progress):
    """Final losses float64[horizons, pairs] of pairs of a candidate and a seed, as many at a time as there are lanes.

    With data, held-out losses at the horizons follow as more rows.
    """
    width, longest, found = program.width, max(horizons), []
    for first in range(0, len(pairs), width):
        progress(f"rates, run {first + 1} of {len(pairs)}")
        chunk = pairs[first : first + width]
        full = [*chunk, *[chunk[-1]] * (width - len(chunk))]  # lanes that are left over repeat the last pair
        chosen, seed = np.array(full).T
        points = jax.tree.map(lambda *values: np.array(values), *[candidates[i] for i in chosen])
        start = program.begin(keys[seed])
        if data is None:
            losses, _ = program.train(points, start, (longest,), longest, False)
            held_out = []
        else:
            marks = tuple(sorted(horizons))
            losses, metrics = program.train(points, start, marks, longest, True, data)
            held_out = [metrics["loss"][marks.index(steps), : len(chunk)] for steps in horizons]
        rows = [lanes.final_losses(losses[: len(chunk), :steps]) for steps in horizons]
        found.append([*rows, *(np.where(np.isnan(row), np.inf, row) for row in held_out)])
    return np.concatenate(found, axis=1).astype(np.float64)


def _narrow(measure, num_candidates, num_seeds, ordered=True):
    """Index of the best candidate for each row. `measure`: pairs of indices, of candidate and seed -> [rows, pairs]."""
    scouts = min(NUM_SCOUTS, num_seeds)
    first = measure([(candidate, seed) for candidate in range(num_candidates) for seed in range(scouts)])
    first = first.reshape(len(first), num_candidates, scouts)
    finalists = [_finalists(means, ordered) for means in first.mean(axis=-1)]
    sums = first.sum(axis=-1)  # [rows, candidates]
    remain = sorted(set().union(*finalists))
    pairs = [(candidate, seed) for candidate in remain for seed in range(scouts, num_seeds)]
    if pairs:
        sums[:, remain] += measure(pairs).reshape(len(first), len(remain), -1).sum(axis=-1)
    return [min(each, key=total.__getitem__) for each, total in zip(finalists, sums, strict=True)]


def _finalists(means, ordered):
    """Indices of the candidates that remain, in increasing order: the best, its neighbors on a grid, the next best."""
    order = [int(i) for i in np.argsort(means, kind="stable")]
    beside = (order[0] - 1, order[0] + 1) if ordered else ()
    near = [i for i in (order[0], *beside) if 0 <= i < len(means)]
    return sorted(list(dict.fromkeys([*near, *order]))[:NUM_FINALISTS])
