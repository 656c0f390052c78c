"""Constant settings of SGD: a grid, and the best of it by two rounds of trainings."""

import itertools
from typing import Any
from typing import NamedTuple

import jax.flatten_util
import numpy as np

from meta_train.adaptation.journal import Journal
from meta_train.adaptation.objective import MeasureFn
from meta_train.adaptation.trainings import SEARCH
from meta_train.problems.hyperparameters import hyper_theta

# 100 settings. A rate is given as that of a step from rest to the end of its effect, rate / (1 - momentum).
_RATES = tuple(float(x) for x in np.geomspace(1e-3, 10.0, 10))
_MOMENTA = (0.0, 0.9)
_DECAYS = (0.0, 1e-4, 1e-3, 1e-2, 3e-2)
NUM_FINALISTS, FINAL_SEEDS = 8, 3


class Setting(NamedTuple):
    """Constants."""

    learning_rate: float
    momentum: float
    weight_decay: float


class Constants(NamedTuple):
    """The best setting.

    Fields:
      setting: the values.
      theta: float[numbers], them as raveled schedules.
      log_loss: mean log of the final loss over the seeds of the last round.
      tried: how many settings there were.
      at_edge: whether its rate is the least or the largest of the grid.
    """

    setting: Setting
    theta: np.ndarray
    log_loss: float
    tried: int
    at_edge: bool


def settings(number: int) -> list[Setting]:
    """The grid: every second rate and decay of it where 100 are too many.

    Args:
      number: how many are wanted; 100, or 30.

    Example:
      >>> len(settings(100)), len(settings(30))
      (100, 30)
    """
    whole = number >= len(_RATES) * len(_MOMENTA) * len(_DECAYS)
    rates, decays = (_RATES, _DECAYS) if whole else (_RATES[::2], _DECAYS[::2])
    return [
        Setting(rate * (1.0 - momentum), momentum, decay)
        for rate, momentum, decay in itertools.product(rates, _MOMENTA, decays)
    ]


def as_point(setting: Setting, num_blocks: int) -> np.ndarray:
    """A setting as raveled schedules that do not change: float32[3 * blocks]."""
    theta: Any = hyper_theta(**setting._asdict(), num_blocks=num_blocks)
    return np.asarray(jax.flatten_util.ravel_pytree(theta)[0])


def search(measure: MeasureFn, journal: Journal, number: int, num_steps: int, num_blocks: int) -> Constants:
    """Trains once with every setting, then the best ones again on other seeds.

    Args:
      measure: measures raveled schedules.
      journal: keeps what is measured.
      number: of settings.
      num_steps: of the trainings.
      num_blocks: of the schedules.
    """
    tried = settings(number)
    points = np.stack([as_point(each, num_blocks) for each in tried])
    first = np.array(journal.recall("grid", lambda: measure(points, range(1), SEARCH, num_steps).tolist()))[:, 0]
    finalists = np.argsort(first, kind="stable")[:NUM_FINALISTS]
    seeds = range(1, 1 + FINAL_SEEDS)
    more = journal.recall("finalists", lambda: measure(points[finalists], seeds, SEARCH, num_steps).tolist())
    means = (first[finalists] + np.sum(more, axis=1)) / (1 + FINAL_SEEDS)
    best = finalists[int(np.argmin(means))]
    rate = tried[best].learning_rate / (1.0 - tried[best].momentum)
    at_edge = bool(np.isclose(rate, [_RATES[0], _RATES[-1]]).any())
    return Constants(tried[best], points[best], float(means.min()), len(tried), at_edge)
