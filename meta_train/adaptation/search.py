"""The search: each coordinate by itself, combinations of what helped, then CMA-ES around the best of them.

Every candidate of a round trains from the same initial parameters on the same minibatches, so that differences come
from the candidates. Every round has seeds of its own, so that no candidate is taken because it fits some of them.
"""

import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.adaptation import constants
from meta_train.adaptation.clock import Clock
from meta_train.adaptation.journal import Journal
from meta_train.adaptation.objective import MeasureFn
from meta_train.adaptation.plan import Plan
from meta_train.adaptation.trainings import SEARCH
from meta_train.outer import search as strategies

_STD = 0.4  # of the first generation, in moves that are scaled by `_scales`
_MOST_SEEDS = 4  # of a candidate in a round
_SWEEP_PART = 3  # the sweep takes at most one of so many trainings
_COMBINATION_SEEDS = 2
_CHECKS = 4  # how often the mean of CMA-ES is compared with the best so far; after two without progress it stops
_CHECK_SEEDS = 4
_FEW_TO_CHECK = 12  # generations; a shorter search is not stopped early
_MOST_GENERATIONS = 1000
_FULL_COVARIANCE = 40  # trainings for each coordinate that a covariance with all correlations needs
_NO_EFFECT = 1e-6  # a smaller change of the log of the loss


class Sweep(NamedTuple):
    """What moves along single coordinates do.

    Fields:
      names: of the coordinates.
      down, up: float[coordinates], mean change of the log of the final loss.
      noise: standard error of these, 0 if there was one seed.
    """

    names: tuple[str, ...]
    down: np.ndarray
    up: np.ndarray
    noise: np.ndarray


class Found(NamedTuple):
    """What the search found.

    Fields:
      points: name -> point, in the order in which they were found. The last one is the search's answer.
      sweep: what single coordinates do.
      signal, noise: standard deviations of the log of the final loss: between candidates of a combination round, and
        between seeds of a candidate after the default's own is subtracted.
      seeds: trainings of each candidate of CMA-ES in a generation.
      generations: of CMA-ES.
      stopped_early: whether it stopped since it made no progress.
      trainings: how many were made.
    """

    points: dict[str, np.ndarray]
    sweep: Sweep
    signal: float
    noise: float
    seeds: int
    generations: int
    stopped_early: bool
    trainings: int


class _Rounds:
    """Rounds of trainings, which are kept in the journal and have seeds of their own."""

    def __init__(self, measure: MeasureFn, journal: Journal, plan: Plan) -> None:
        self._measure, self._journal, self._plan = measure, journal, plan
        self._next_seed = self.trainings = 0
        self._began = journal.seconds()

    def still(self, seconds: float) -> int:
        """How many trainings can be made in so many seconds, at the speed of those so far."""
        taken = max(self._journal.seconds() - self._began, 1e-3)
        return int(max(seconds, 0.0) * self.trainings / taken)

    def __call__(self, name: str, points: Any, num_seeds: int) -> np.ndarray:
        """Log of final losses, float64[points, seeds]."""
        seeds = range(self._next_seed, self._next_seed + num_seeds)
        self._next_seed = seeds.stop
        self.trainings += len(points) * num_seeds
        points = np.asarray(points)
        kept = self._journal.recall(name, lambda: self._measure(points, seeds, SEARCH, self._plan.horizon).tolist())
        return np.array(kept, np.float64)


def search(
    measure: MeasureFn, journal: Journal, plan: Plan, clock: Clock, *, at_a_time: int, until: float, seed: int
) -> Found:
    """Searches until the time is out, or there is no more progress.

    Args:
      measure: measures points.
      journal: keeps what is measured.
      plan: how long trainings are, and about how many there are.
      clock: shows what is done.
      at_a_time: trainings that all devices together make at a time.
      until: seconds that must be left when the search ends.
      seed: of CMA-ES.
    """
    rounds, number = _Rounds(measure, journal, plan), len(constants.COORDINATES)
    num_coordinates, sweep_seeds = _sweep_size(plan.num_trainings)
    clock.tell(f"sweep over {num_coordinates} constants")
    sweep = _sweep(rounds, num_coordinates, sweep_seeds)
    clock.tell("combinations of constants")
    start, signal, noise = _combine(rounds, sweep, number)
    points = {"sweep": start}
    active = np.flatnonzero(np.maximum(np.abs(sweep.down), np.abs(sweep.up)) > _NO_EFFECT)
    seeds = int(np.clip(round((noise / max(signal, 1e-9)) ** 2), 1, _MOST_SEEDS))
    generations, stopped_early = 0, False
    if len(active) >= 2:
        size, seeds = _generation(len(active), seeds, at_a_time)
        planned = journal.recall("generations", lambda: max(1, rounds.still(clock.left() - until) // (size * seeds)))
        strategy = strategies.cma_es(
            num_candidates=size,
            std=_STD,
            max_generations=_MOST_GENERATIONS,
            diagonal=planned * size < _FULL_COVARIANCE * len(active),
        )
        means, generations, stopped_early = _evolve(
            rounds, strategy, start, active, _scales(sweep)[active], seeds, planned, journal, clock, until, seed
        )
        points |= means
    return Found(points, sweep, signal, noise, seeds, generations, stopped_early, rounds.trainings)


def _sweep_size(num_trainings):
    """How many coordinates to move, and the seeds of each candidate."""
    everything = 2 * len(constants.COORDINATES) + 1
    if num_trainings < _SWEEP_PART * everything:
        return constants.NUM_MAIN, 1
    return len(constants.COORDINATES), int(np.clip(num_trainings // (_SWEEP_PART * everything), 1, _MOST_SEEDS))


def _sweep(rounds, num_coordinates, num_seeds):
    units = np.eye(len(constants.COORDINATES))[:num_coordinates]
    values = rounds("sweep", [np.zeros(units.shape[1]), *-units, *units], num_seeds)
    changes = values[1:] - values[:1]  # from the default on the same seed
    down, up = changes.mean(axis=1).reshape(2, num_coordinates)
    error = changes.std(axis=1, ddof=1) / math.sqrt(num_seeds) if num_seeds > 1 else np.zeros(len(changes))
    return Sweep(constants.names()[:num_coordinates], down, up, error.reshape(2, num_coordinates).mean(axis=0))


def _combine(rounds, sweep, number):
    """The best combination of moves that helped, and the spreads between candidates and between seeds."""
    best, gains = _best_moves(sweep)
    order = [i for i in np.argsort(gains) if gains[i] < 0.0]
    candidates = [np.zeros(number)]
    tried = ((order[:1], 1.0), (order[:3], 0.5), (order[:3], 1.0), (order, 0.25), (order, 0.5), (order, 1.0))
    for chosen, factor in tried:
        point = np.zeros(number)
        point[chosen] = factor * best[chosen]
        candidates.append(point)
    values = rounds("combinations", candidates, _COMBINATION_SEEDS)
    changes = values[1:] - values[:1]
    noise2 = changes.var(axis=1, ddof=1).mean()
    signal2 = max(changes.mean(axis=1).var(ddof=1) - noise2 / _COMBINATION_SEEDS, 0.0)
    means = np.concatenate([[0.0], changes.mean(axis=1)])
    return candidates[int(means.argmin())], math.sqrt(signal2), math.sqrt(noise2)


def _best_moves(sweep):
    """For each coordinate the lowest point of a parabola through the three values, and its gain beyond the noise."""
    curvature, slope = (sweep.up + sweep.down) / 2.0, (sweep.up - sweep.down) / 2.0
    best = np.clip(-slope / (2.0 * np.maximum(curvature, 1e-3)), -1.0, 1.0)
    gains = curvature * best**2 + slope * best
    return best, np.minimum(gains + sweep.noise, 0.0)


def _scales(sweep):
    """Shorter first moves along coordinates that change the loss more than most, and longer ones along the others."""
    effects = np.maximum(np.abs(sweep.down), np.abs(sweep.up))
    typical = np.median(effects[effects > _NO_EFFECT]) if (effects > _NO_EFFECT).any() else 1.0
    return np.clip(np.sqrt(typical / np.maximum(effects, 1e-9)), 1.0 / 3.0, 2.0)


def _generation(num_coordinates, seeds, at_a_time):
    """Candidates of a generation and the seeds of each, so that no device and no lane is idle."""
    size = 4 + int(3 * math.log(num_coordinates))  # the advice of the package `cma`
    total = -(-size * seeds // at_a_time) * at_a_time
    seeds = max(seeds, min(total // size, _MOST_SEEDS))
    return total // seeds, seeds


def _evolve(rounds, strategy, start, active, scales, seeds, planned, journal, clock, until, seed):
    """CMA-ES around the start, over the active coordinates.

    Returns its mean at each check and at the end, the number of generations, and whether it stopped early.
    """

    def point(numbers):
        found = start.copy()
        found[active] += scales * np.asarray(numbers, np.float64)
        return found

    state = strategy.on_host(strategy.init(jax.random.key(seed), np.zeros(len(active), np.float32)))
    checked = {max(1, planned * k // _CHECKS) for k in range(1, _CHECKS)} if planned >= _FEW_TO_CHECK else ()
    points, best, without, took, done = {}, start, 0, 0.0, 0
    while done < _MOST_GENERATIONS:
        name, began = f"generation {done + 1}", journal.seconds()
        if not journal.knows(name) and clock.left() - until < took:
            break
        clock.tell(f"{name} of about {planned}")
        candidates = strategy.ask(None, state)
        losses = rounds(name, [point(numbers) for numbers in np.asarray(candidates)], seeds).mean(axis=1)
        state = strategy.on_host(strategy.tell(None, state, candidates, jnp.asarray(losses, jnp.float32), None))
        done, took = done + 1, max(took, journal.seconds() - began)
        if done in checked:
            mean = points[f"CMA-ES, generation {done}"] = point(strategy.best(state))
            ours, theirs = rounds(f"check {done}", [mean, best], _CHECK_SEEDS).mean(axis=1)
            best, without = (mean, 0) if ours < theirs else (best, without + 1)
            if without == 2:
                return points, done, True
    if done:
        points[f"CMA-ES, generation {done}"] = point(strategy.best(state))
    return points, done, False
