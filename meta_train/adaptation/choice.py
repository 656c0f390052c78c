"""Which answer of the search to take, and how much of it: by trainings from seeds that the search has not seen."""

from collections.abc import Mapping
import math
from typing import NamedTuple

import numpy as np

from meta_train.adaptation.objective import MeasureFn
from meta_train.adaptation.plan import NUM_CANDIDATES
from meta_train.adaptation.trainings import CHOOSE

SHARES = (0.25, 0.5, 0.75, 1.0)  # of the way from the default to the search's answer


class Candidate(NamedTuple):
    """A point that could be taken.

    Fields:
      name: what it is.
      point: the point.
      change: mean change of the log of the final loss from the default's, on the same seeds.
      error: standard error of that.
    """

    name: str
    point: np.ndarray
    change: float
    error: float


def candidates(points: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Shares of the way to the last point, and as many of the others as the plan has room for, the latest first.

    Example:
      >>> list(candidates({"sweep": np.zeros(2), "CMA-ES": np.ones(2)}))
      ['¼ of CMA-ES', '½ of CMA-ES', '¾ of CMA-ES', 'CMA-ES', 'sweep']
    """
    *others, last = points
    found = {
        f"{part}{last}": share * points[last]
        for part, share in zip(("¼ of ", "½ of ", "¾ of ", ""), SHARES, strict=True)
    }
    rest = others[::-1][: NUM_CANDIDATES - len(SHARES)]
    return found | {name: points[name] for name in rest}


def measured(measure: MeasureFn, named: Mapping[str, np.ndarray], num_seeds: int, num_steps: int) -> np.ndarray:
    """The log of final losses of the default, then of the candidates, on seeds that the search has not seen.

    Args:
      measure: measures points.
      named: the candidates.
      num_seeds, num_steps: of the trainings.
    """
    zero = np.zeros_like(next(iter(named.values())))
    return measure(np.stack([zero, *named.values()]), range(num_seeds), CHOOSE, num_steps)


def judged(named: Mapping[str, np.ndarray], values: np.ndarray) -> list[Candidate]:
    """The candidates with what was measured, float64[1 + candidates, seeds], the default first."""
    changes = values[1:] - values[:1]
    errors = changes.std(axis=1, ddof=1) / math.sqrt(values.shape[1]) if values.shape[1] > 1 else np.zeros(len(changes))
    return [
        Candidate(name, point, float(change.mean()), float(error))
        for (name, point), change, error in zip(named.items(), changes, errors, strict=True)
    ]


def best(found: list[Candidate]) -> Candidate | None:
    """The candidate with the lowest mean, if that is below the default by more than its standard error.

    Example:
      >>> best([Candidate("a", np.ones(1), -0.1, 0.2), Candidate("b", np.ones(1), 0.1, 0.0)]) is None
      True
    """
    lowest = min(found, key=lambda candidate: candidate.change)
    return lowest if lowest.change + lowest.error < 0.0 else None
