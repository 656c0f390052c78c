"""Tunes the learning rates of baselines on a grid, in two rounds.

Running every rate with all seeds would be most of the cost of an evaluation, and most of that would go to rates that
two seeds show to be far off. So all rates first get two seeds. Then four rates get the other seeds as well: the best,
its neighbors in the grid, and the next best. With nineteen rates and eight seeds, that is 62 runs instead of 152. The
lowest mean final training loss over all seeds wins.

An optimizer that is not told the number of steps is tuned for all horizons in one sweep, whose runs are as long as the
longest horizon: a shorter run is the beginning of a longer one. The rounds are made for each horizon by itself, so each
gets the rate that it would get alone.
"""

from collections.abc import Sequence

import numpy as np

from meta_train.evaluation import lanes
from meta_train.evaluation.baselines import LEARNING_RATES
from meta_train.evaluation.lanes import Lanes
from meta_train.host.progress import TellFn

NUM_SEEDS = 8  # of each rate that remains
NUM_SCOUTS = 2  # of these seeds, with which all rates are tried
NUM_FINALISTS = 4  # rates that remain, the best one's neighbors among them
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
    sweeps = [(steps,) for steps in horizons] if scheduled else [tuple(horizons)]
    keys = lanes.keys(num_seeds, lanes.TUNE)
    found = {}
    for sweep in sweeps:

        def measure(pairs, sweep=sweep):
            return _final_losses(program, learning_rates, keys, pairs, sweep, progress)

        winners = _narrow(measure, len(learning_rates), num_seeds)
        found |= {steps: float(learning_rates[i]) for steps, i in zip(sweep, winners, strict=True)}
    return found


def _final_losses(program, rates, keys, pairs, horizons, progress):
    """Final losses float64[horizons, pairs] of pairs of a rate and a seed; as many at a time as there are lanes."""
    width, longest, found = program.width, max(horizons), []
    for first in range(0, len(pairs), width):
        progress(f"rates, run {first + 1} of {len(pairs)}")
        chunk = pairs[first : first + width]
        full = [*chunk, *[chunk[-1]] * (width - len(chunk))]  # lanes that are left over repeat the last pair
        rate, seed = np.array(full).T
        losses, _ = program.train(np.asarray(rates)[rate], program.begin(keys[seed]), (longest,), longest, False)
        found.append([lanes.final_losses(losses[: len(chunk), :steps]) for steps in horizons])
    return np.concatenate(found, axis=1).astype(np.float64)


def _narrow(measure, num_rates, num_seeds):
    """Index of the best rate for each horizon. `measure`: pairs of indices, of rate and seed -> [horizons, pairs]."""
    scouts = min(NUM_SCOUTS, num_seeds)
    first = measure([(rate, seed) for rate in range(num_rates) for seed in range(scouts)])
    first = first.reshape(len(first), num_rates, scouts)
    finalists = [_finalists(means) for means in first.mean(axis=-1)]
    sums = first.sum(axis=-1)  # [horizons, rates]
    rates = sorted(set().union(*finalists))
    pairs = [(rate, seed) for rate in rates for seed in range(scouts, num_seeds)]
    if pairs:
        sums[:, rates] += measure(pairs).reshape(len(first), len(rates), -1).sum(axis=-1)
    return [min(remain, key=total.__getitem__) for remain, total in zip(finalists, sums, strict=True)]


def _finalists(means):
    """Indices of the rates that remain, in increasing order: the best, its neighbors, and the next best."""
    order = [int(i) for i in np.argsort(means, kind="stable")]
    near = [i for i in (order[0], order[0] - 1, order[0] + 1) if 0 <= i < len(means)]
    return sorted(list(dict.fromkeys([*near, *order]))[:NUM_FINALISTS])
