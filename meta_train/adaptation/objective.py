"""What an adaptation lowers: the logarithm of a training's final loss, measured for points of the search.

A point is a vector with one number for each coordinate of `constants`, in units of its move; 0 is the optimizer that
the adaptation starts from.
"""

from typing import Any
from typing import NamedTuple
from typing import Protocol

import numpy as np

from meta_train.adaptation.trainings import Trainings
from meta_train.evaluation import lanes

TRAINING, HELD_OUT = "training", "held-out"
OBJECTIVES = (HELD_OUT, TRAINING)
_FLOOR = 1e-8  # of losses, in units of the initial loss; smaller ones count as equal


class MeasureFn(Protocol):
    """Measures points."""

    def __call__(
        self, points: np.ndarray, seeds: range, stream: int, num_steps: int, *, data: Any = None
    ) -> np.ndarray:
        """Trains with each point from each seed.

        Args:
          points: float[points, coordinates].
          seeds: numbers of the seeds; all points have the same.
          stream: of random keys, as of `lanes.keys`.
          num_steps: of the trainings.
          data: in place of those to search on.

        Returns:
          float64[points, seeds], the log of final losses, not above that of 1e8 times the initial loss.
        """
        ...


class Space(NamedTuple):
    """Where the search is.

    Fields:
      origin: float64[numbers], the theta to start from, raveled.
      moves: float64[coordinates, numbers], what a move along each coordinate adds.
    """

    origin: np.ndarray
    moves: np.ndarray

    def theta(self, points: np.ndarray) -> np.ndarray:
        """The raveled thetas of points: float64[…, numbers]."""
        return self.origin + points @ self.moves


def log_losses(losses: np.ndarray, scale: float) -> np.ndarray:
    """Logarithms of losses, cut to 1e-8 and 1e8 times the scale; NaN counts as the largest.

    Example:
      >>> log_losses(np.array([1.0, 0.0, np.nan]), 1.0).round(1)
      array([  0. , -18.4,  18.4])
    """
    found = np.nan_to_num(np.asarray(losses, np.float64) / scale, nan=np.inf, posinf=np.inf)
    return np.log(np.clip(found, _FLOOR, 1.0 / _FLOOR)) + np.log(scale)


def measurer(trainings: Trainings, space: Space, objective: str, search_data: Any, scale: float) -> MeasureFn:
    """Makes the function that measures points.

    Args:
      trainings: the programs.
      space: of the points.
      objective: `TRAINING`, the mean over the last tenth of the steps, or `HELD_OUT`, after the last step.
      search_data: data whose held-out part the search may see.
      scale: the initial loss.
    """

    def measure(points, seeds, stream, num_steps, *, data=None):
        number, count = len(points), len(seeds)
        keys = lanes.keys(seeds.stop, stream)[np.tile(np.arange(seeds.start, seeds.stop), number)]
        thetas = np.repeat(space.theta(np.asarray(points)), count, axis=0)
        made = trainings.run(
            thetas,
            keys,
            (num_steps,),
            data=search_data if data is None else data,
            held_out=objective == HELD_OUT,
        )
        final = made.held_out["loss"][-1] if objective == HELD_OUT else lanes.final_losses(made.losses)
        return log_losses(final, scale).reshape(number, count)

    return measure
