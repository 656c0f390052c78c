"""VeLO's weights: by google/learned_optimization, copies on Celo's hub, and PyLO's two folders.

Metz, Harrison, Freeman, Merchant, Beyer, Bradbury, Agrawal, Poole, Mordatch, Roberts, Sohl-Dickstein 2022, "VeLO:
Training Versatile Learned Optimizers by Scaling Up", https://arxiv.org/abs/2211.09760
"""

from typing import Any

from learned_optim import optimizers
from learned_optim.base import LearnedOptimizer
from learned_optim.base import Theta
from learned_optim.convert import coordinate_network
from learned_optim.convert import recurrent
from learned_optim.convert.arrays import Arrays
from learned_optim.convert.arrays import sizes

NUM_INPUTS = 30  # of the recurrent network
_STACKED = "networks"


def convert(arrays: Arrays, settings: dict[str, Any]) -> tuple[LearnedOptimizer, Theta]:
    """Makes `(optimizer, theta)` of VeLO.

    Args:
      arrays: float32 arrays by their path in the reference's theta.
      settings: further arguments of `learned_optim.velo`.

    Raises:
      ValueError: if an array is missing, unknown, of another shape or not float32.
    """
    outputs: dict[str, int | str] = {"rnn_to_controls": _STACKED, "step_size": 1}
    shapes = coordinate_network.shapes(arrays, (_STACKED,)) | recurrent.shapes(arrays, NUM_INPUTS, outputs)
    found = sizes(arrays, shapes)
    optimizer = optimizers.velo(
        hidden_sizes=coordinate_network.hidden_sizes(found),
        lstm_size=recurrent.lstm_size(arrays),
        num_networks=found[_STACKED],
        **settings,
    )
    bank = coordinate_network.convert(arrays, num_outputs=2)
    return optimizer, {"bank": bank, **recurrent.convert(arrays, ("rnn_to_controls", "step_size"))}
