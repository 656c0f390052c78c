"""Celo's weights, `theta.state` of its hub: the optimizer, its rule alone, and its schedule on Adam.

Moudgil, Knyazev, Lajoie, Belilovsky 2025, "Celo: Training Versatile Learned Optimizers on a Compute Diet",
https://arxiv.org/abs/2501.12670

The reference has a bank of one network, whose weight is a softmax over one control and thus always 1. The layer of the
controls has no effect and is left out.
"""

from typing import Any

from learned_optim import optimizers
from learned_optim.base import LearnedOptimizer
from learned_optim.base import Theta
from learned_optim.convert import coordinate_network
from learned_optim.convert import recurrent
from learned_optim.convert.arrays import Arrays
from learned_optim.convert.arrays import sizes

NUM_INPUTS = 18  # of the recurrent network


def convert(arrays: Arrays, settings: dict[str, Any]) -> tuple[LearnedOptimizer, Theta]:
    """Makes `(optimizer, theta)` of Celo.

    Args:
      arrays: float32 arrays by their path in the reference's theta.
      settings: further arguments of `learned_optim.celo`. With `scheduler=False` the schedule is left out.

    Raises:
      ValueError: if an array is missing, unknown, of another shape or not float32.
    """
    outputs: dict[str, int | str] = {"rnn_to_controls": 1, "step_size": 1}
    shapes = coordinate_network.shapes(arrays, (1,)) | recurrent.shapes(arrays, NUM_INPUTS, outputs)
    found = sizes(arrays, shapes)
    hidden_sizes = coordinate_network.hidden_sizes(found)
    optimizer = optimizers.celo(hidden_sizes, lstm_size=recurrent.lstm_size(arrays), **settings)
    layers = coordinate_network.convert(arrays, num_outputs=2)
    rule = {layer: {name: array[0] for name, array in params.items()} for layer, params in layers.items()}
    if settings.get("scheduler") is False:
        return optimizer, {"rule": rule}
    return optimizer, {"rule": rule, "scheduler": recurrent.convert(arrays, ("step_size",))}


def convert_on_adam(arrays: Arrays, settings: dict[str, Any]) -> tuple[LearnedOptimizer, Theta]:
    """Makes `(optimizer, theta)` of Celo's schedule on Adam's direction.

    Args:
      arrays: float32 arrays by their path in the reference's theta.
      settings: further arguments of `learned_optim.celo`.

    Raises:
      ValueError: if an array is missing, unknown, of another shape or not float32.
    """
    sizes(arrays, recurrent.shapes(arrays, NUM_INPUTS, {"step_size": 1}))
    optimizer = optimizers.celo(lstm_size=recurrent.lstm_size(arrays), adam=True, **settings)
    return optimizer, {"scheduler": recurrent.convert(arrays, ("step_size",))}
