"""Statistics of optimizers over many tasks: speedups, interquartile means with intervals, performance profiles.

Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
https://arxiv.org/abs/2108.13264 (interquartile means, stratified bootstrap)
Dolan and Moré 2002, "Benchmarking optimization software with performance profiles",
https://arxiv.org/abs/cs/0102001
Dahl et al. 2023, "Benchmarking Neural Network Training Algorithms", https://arxiv.org/abs/2306.07179 (AlgoPerf's score)
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

# Horizons that a baseline runs for, in units of the horizon at which optimizers are judged.
LADDER = (0.25, 0.5, 1.0, 2.0, 4.0)


def speedup(
    target: Float[np.ndarray, " seeds"],
    losses: Float[np.ndarray, "{len(ladder)} seeds"],
    ladder: Sequence[float] = LADDER,
) -> Float[np.ndarray, " seeds"]:
    """How many times as many steps a baseline needs to reach the final loss of another optimizer.

    Args:
      target: the other optimizer's final losses.
      losses: the baseline's final losses at each rung's number of steps.
      ladder: increasing horizons of the rungs, in units of the other optimizer's horizon.

    Returns:
      Numbers between the first and the last rung: the first horizon at which the baseline's loss is at or below the
      target, interpolated linearly between the logarithms of horizon and loss. The last rung means "at least".

    Example: a baseline whose loss is one over its steps, against a loss that it reaches after twice the steps.
      >>> speedup(np.array([0.5]), 1 / np.array([[0.25], [0.5], [1.0], [2.0], [4.0]]))
      array([2.])
    """
    horizons = np.log(np.asarray(ladder, np.float64))
    tiny = 1e-30  # losses of exactly zero are equal to each other
    targets, heights = np.log(np.maximum(target, tiny)), np.log(np.maximum(losses, tiny))
    result = []
    for goal, curve in zip(targets, heights.T, strict=True):
        reached = np.flatnonzero(curve <= goal)
        if len(reached) == 0:
            result.append(horizons[-1])
        elif reached[0] == 0:
            result.append(horizons[0])
        else:
            i = reached[0]
            share = (curve[i - 1] - goal) / (curve[i - 1] - curve[i]) if np.isfinite(curve[i - 1]) else 1.0
            result.append(horizons[i - 1] + share * (horizons[i] - horizons[i - 1]))
    return np.exp(result)


class Cut(NamedTuple):
    """The shares of speedups that are cut, since the baseline has no shorter or longer runs."""

    below: float  # at the first rung: the true number is that or lower
    above: float  # at the last rung: the true number is that or higher

    @property
    def sign(self) -> str:
        """ "≥" if speedups cut above are among the middle half, so that their mean is too low; "≤" the other way round.

        If both are among it, the mean may be off either way: "≈".
        """
        low, high = self.below > 0.25, self.above > 0.25
        return "≈" if low and high else "≥" if high else "≤" if low else ""


def cut(speedups: Float[np.ndarray, " ..."], ladder: Sequence[float] = LADDER) -> Cut:
    """How many speedups are cut.

    Args:
      speedups: from `speedup`, of any shape.
      ladder: as there.

    Example:
      >>> cut(np.array([0.25, 1.0, 2.0, 4.0, 4.0])), cut(np.array([0.25, 1.0, 2.0, 4.0, 4.0])).sign
      (Cut(below=0.2, above=0.4), '≥')
    """
    shares = [float(np.mean(np.isclose(speedups, rung))) for rung in (ladder[0], ladder[-1])]
    return Cut(*shares)


def interquartile_mean(values: Float[np.ndarray, " ..."]) -> float:
    """Mean of the middle half of all values of an array. Values at the two ends of that half count in part.

    Example:
      >>> interquartile_mean(np.array([0.0, 1.0, 3.0, 100.0]))
      2.0
    """
    ordered = np.sort(np.ravel(values).astype(np.float64))
    edges = np.arange(len(ordered) + 1) / len(ordered)
    weights = np.clip(np.minimum(edges[1:], 0.75) - np.maximum(edges[:-1], 0.25), 0.0, None)
    kept = weights > 0
    return float(np.sum(ordered[kept] * weights[kept]) / np.sum(weights))


def interval(
    values: Float[np.ndarray, "tasks seeds"],
    statistic: Callable[[Float[np.ndarray, "tasks seeds"]], float],
    *,
    level: float = 0.95,
    num_samples: int = 2000,
) -> tuple[float, float]:
    """Percentile interval of a statistic by a stratified bootstrap, which resamples seeds within each task.

    Args:
      values: what the statistic is of, such as speedups.
      statistic: a function of such an array.
      level: the interval's coverage.
      num_samples: resamples, drawn with a fixed seed.

    Example:
      >>> interval(np.array([[1.0, 1.0], [3.0, 3.0]]), np.mean)
      (2.0, 2.0)
    """
    drawn = _resampled(values, statistic, num_samples)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def profile(
    losses: Float[np.ndarray, "optimizers tasks"], factors: Float[np.ndarray, " points"]
) -> Float[np.ndarray, "optimizers points"]:
    """Performance profile: the share of tasks on which an optimizer ends within a factor of the best one's loss.

    Args:
      losses: final losses; infinite for divergence.
      factors: at least 1.

    Example:
      >>> profile(np.array([[1.0, 8.0], [2.0, 2.0]]), np.array([1.0, 2.0, 4.0]))
      array([[0.5, 0.5, 1. ],
             [0.5, 1. , 1. ]])
    """
    losses = np.maximum(losses, 1e-30)
    within = losses[:, :, None] <= np.min(losses, axis=0)[None, :, None] * factors
    return np.mean(within & np.isfinite(losses)[:, :, None], axis=1)


def score(times: Float[np.ndarray, "optimizers tasks"]) -> Float[np.ndarray, " optimizers"]:
    """AlgoPerf's score: the mean height of the performance profile of times to a target, over factors from 1 to 4.

    The mean is an integral by the trapezoid rule over 100 even points. An optimizer that is the fastest on every task
    has 1, one that nowhere reaches the target within four times the time of the fastest has 0.

    Args:
      times: steps or seconds to the target; infinite or NaN where it is not reached.

    Example: half as fast as the best on one of two tasks, and never there on the other.
      >>> score(np.array([[1.0, 1.0], [2.0, np.inf]])).round(3)
      array([1.   , 0.336])
    """
    factors = np.linspace(1.0, 4.0, 100)
    heights = profile(np.where(np.isnan(times), np.inf, times), factors)
    return np.trapezoid(heights, factors, axis=1) / (factors[-1] - factors[0])


def score_of_medians(times: Float[np.ndarray, "optimizers tasks seeds"]) -> Float[np.ndarray, " optimizers"]:
    """The `score` of each optimizer's median times over the seeds."""
    return score(np.median(np.where(np.isnan(times), np.inf, times), axis=-1))


def score_intervals(
    times: Float[np.ndarray, "optimizers tasks seeds"], *, level: float = 0.95, num_samples: int = 1000
) -> Float[np.ndarray, "2 optimizers"]:
    """Ends of percentile intervals of `score_of_medians`, by a bootstrap over seeds within tasks.

    All optimizers have the same draws, as a seed stands for the same start and minibatches.

    Args:
      times: as of `score`, for each seed.
      level: the intervals' coverage.
      num_samples: resamples, drawn with a fixed seed.

    Example:
      >>> score_intervals(np.array([[[1.0, 1.0]], [[np.inf, np.inf]]]), num_samples=10)
      array([[1., 0.],
             [1., 0.]])
    """
    statistic = lambda drawn: score_of_medians(np.moveaxis(drawn, -1, 0))
    drawn = _resampled(np.moveaxis(times, 0, -1), statistic, num_samples)
    return np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)


def _resampled(values, statistic, num_samples):
    """A statistic of arrays `[tasks, seeds, …]` whose seeds are drawn with replacement within each task."""
    random = np.random.default_rng(0)
    tasks, seeds = values.shape[:2]
    rows = np.arange(tasks)[:, None]
    return np.array([statistic(values[rows, random.integers(0, seeds, (tasks, seeds))]) for _ in range(num_samples)])
