"""Celo2's weights: `theta.state` of its hub, and PyLO's folders of Celo2 and ELO-Celo2.

Moudgil, Knyazev, Belilovsky 2026, "Celo2: Towards Learned Optimization Free Lunch", https://arxiv.org/abs/2602.19142
"""

from typing import Any

from learned_optim import optimizers
from learned_optim.base import LearnedOptimizer
from learned_optim.base import Theta
from learned_optim.convert import coordinate_network
from learned_optim.convert.arrays import Arrays
from learned_optim.convert.arrays import sizes


def convert(arrays: Arrays, settings: dict[str, Any]) -> tuple[LearnedOptimizer, Theta]:
    """Makes `(optimizer, theta)` of Celo2.

    Args:
      arrays: float32 arrays by their path in the reference's theta.
      settings: further arguments of `learned_optim.celo2`.

    Raises:
      ValueError: if an array is missing, unknown, of another shape or not float32.
    """
    found = sizes(arrays, coordinate_network.shapes(arrays, ()))
    optimizer = optimizers.celo2(coordinate_network.hidden_sizes(found), **settings)
    return optimizer, coordinate_network.convert(arrays, num_outputs=1)
