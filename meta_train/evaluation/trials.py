"""Hyperparameters of baselines, and the quasi-random trials that these are tuned by, as in AlgoPerf's external tuning.

Dahl et al. 2023, "Benchmarking Neural Network Training Algorithms", https://arxiv.org/abs/2306.07179 (the rules)
Bousquet et al. 2017, "Critical Hyper-Parameters: No Random, No Cry", https://arxiv.org/abs/1706.03200
"""

from typing import Any
from typing import NamedTuple

NUM_TRIALS = 20  # of each baseline that is tuned so


class Hyperparameters(NamedTuple):
    """What a baseline is made with. In `lanes` each is an array with an axis of lanes."""

    learning_rate: Any  # the largest of the run
    weight_decay: Any  # as of `optax.adamw`: multiplied by the learning rate
    warmup: Any  # share of the steps over which the learning rate rises linearly
    beta2: Any  # decay of the average of squared gradients


class Space(NamedTuple):
    """Ranges from which hyperparameters are drawn. The first two are even in the logarithm, the share is even.

    Fields:
      learning_rate, weight_decay, warmup: lowest and highest.
      one_minus_beta2: lowest and highest, even in the logarithm.
    """

    learning_rate: tuple[float, float] = (1e-4, 1.0)
    weight_decay: tuple[float, float] = (1e-5, 1e-1)
    warmup: tuple[float, float] = (0.0, 0.2)
    one_minus_beta2: tuple[float, float] = (1e-3, 1e-1)


SPACE = Space()


def trials(space: Space = SPACE, num_trials: int = NUM_TRIALS) -> tuple[Hyperparameters, ...]:
    """The first points of the Halton sequence of bases 2, 3, 5 and 7, so the same for every task and every baseline.

    Args:
      space: the ranges.
      num_trials: number of points. A smaller number gives the first points of a larger one.

    Example:
      >>> first = trials(num_trials=3)[0]
      >>> f"{first.learning_rate:.2g}, {first.weight_decay:.2g}, {first.warmup:.2g}, {first.beta2:.4g}"
      '0.01, 0.00022, 0.04, 0.9981'
    """
    return tuple(
        Hyperparameters(
            learning_rate=_between(_halton(number, 2), *space.learning_rate),
            weight_decay=_between(_halton(number, 3), *space.weight_decay),
            warmup=space.warmup[0] + _halton(number, 5) * (space.warmup[1] - space.warmup[0]),
            beta2=1.0 - _between(_halton(number, 7), *space.one_minus_beta2),
        )
        for number in range(1, num_trials + 1)
    )


def _between(share, low, high):
    """Even in the logarithm."""
    return low * (high / low) ** share


def _halton(number, base):
    """The digits of a number mirrored at the point. SciPy has it too, in a package that takes seconds to import."""
    result, unit = 0.0, 1.0
    while number:
        unit /= base
        number, digit = divmod(number, base)
        result += digit * unit
    return result
