"""The weights of google/learned_optimization's networks without a bank: mlp, adafac_mlp and rnn_mlp; μLO and ELO.

- mlp and adafac_mlp: Metz et al. 2022, "Practical tradeoffs between memory, compute, and performance in learned
  optimizers", https://arxiv.org/abs/2203.11860
- rnn_mlp: Metz et al. 2020, "Tasks, stability, architecture, and compute", https://arxiv.org/abs/2009.11243
- μLO, an adafac_mlp: Thérien et al. 2024, "μLO: Compute-Efficient Meta-Generalization of Learned Optimizers",
  https://arxiv.org/abs/2406.00153

All rows and columns are in our order, and every number is kept.
"""

from typing import Any

import numpy as np

from learned_optim import optimizers
from learned_optim.base import LearnedOptimizer
from learned_optim.base import Theta
from learned_optim.convert.arrays import Arrays
from learned_optim.convert.arrays import Shape
from learned_optim.convert.arrays import depth
from learned_optim.convert.arrays import sizes
from learned_optim.optimizers.hierarchical_mlp import LSTM_TO_LSTM
from learned_optim.optimizers.hierarchical_mlp import LSTM_TO_MLP
from learned_optim.optimizers.hierarchical_mlp import MLP_TO_LSTM

MLP_PREFIX = "mlp/~/linear_"
FACTORED_PREFIX = "nn/~/"
RECURRENT_PREFIX = "ffmod_params/mlp/~/linear_"
_MLP_INPUTS, _FACTORED_INPUTS, _RECURRENT_INPUTS, _RECURRENT_TENSOR_INPUTS = 19, 39, 54, 52
_DECAYS = {"momentum": 3, "rms": 1, "adafactor": 3}
_MULO_DECAYS = {
    "momentum": [0.15216392, 0.14245212, 0.06812963],
    "rms": [0.01079706],
    "adafactor": [0.18621896, -0.10864615, -0.06185547],
}


def convert_mlp(arrays: Arrays, settings: dict[str, Any]) -> tuple[LearnedOptimizer, Theta]:
    """Makes `(optimizer, theta)` of mlp (`MLPLOpt`).

    Args:
      arrays: float32 arrays by their path in the reference's theta.
      settings: further arguments of `learned_optim.mlp`.

    Raises:
      ValueError: if an array is missing, unknown, of another shape or not float32.
    """
    names = _layers(arrays, MLP_PREFIX + "{}/{}")
    hidden_sizes, theta = _network(arrays, names, _MLP_INPUTS, 2, {})
    return optimizers.mlp(hidden_sizes, **settings), theta


def convert_factored(arrays: Arrays, settings: dict[str, Any]) -> tuple[LearnedOptimizer, Theta]:
    """Makes `(optimizer, theta)` of adafac_mlp (`AdafacMLPLOpt`), μLO or ELO.

    Args:
      arrays: float32 arrays by their path in the reference's theta.
      settings: further arguments of `learned_optim.factored_mlp`.

    Raises:
      ValueError: if an array is missing, unknown, of another shape or not float32.
    """
    decays: dict[str, Shape] = {f"{name}_decays": (count,) for name, count in _DECAYS.items()}
    names = _layers(arrays, FACTORED_PREFIX + "{1}{0}")
    hidden_sizes, theta = _network(arrays, names, _FACTORED_INPUTS, 2, decays)
    theta["decays"] = {name: arrays[f"{name}_decays"] for name in _DECAYS}
    return optimizers.factored_mlp(hidden_sizes, **settings), theta


def convert_mulo(arrays: Arrays, settings: dict[str, Any]) -> tuple[LearnedOptimizer, Theta]:
    """`convert_factored` of μLO. PyLO keeps its decays in code, so they are added if the file has none."""
    return _with_decays(arrays, _MULO_DECAYS, settings)


def convert_elo(arrays: Arrays, settings: dict[str, Any]) -> tuple[LearnedOptimizer, Theta]:
    """`convert_factored` of ELO, whose decays are the initial ones of adafac_mlp."""
    return _with_decays(arrays, {name: [0.0] * count for name, count in _DECAYS.items()}, settings)


def convert_recurrent(arrays: Arrays, settings: dict[str, Any]) -> tuple[LearnedOptimizer, Theta]:
    """Makes `(optimizer, theta)` of rnn_mlp (`RNNMLPLOpt`).

    Args:
      arrays: float32 arrays by their path in the reference's theta.
      settings: further arguments of `learned_optim.hierarchical_mlp`.

    Raises:
      ValueError: if an array is missing, unknown, of another shape or not float32.
    """
    hidden = arrays["lstm_init_state/hidden"].shape if "lstm_init_state/hidden" in arrays else ()
    lstm_size = hidden[-1] if hidden else 1
    others: dict[str, Shape] = {"initial_from_mlp": (MLP_TO_LSTM,), "initial_from_lstm": (LSTM_TO_LSTM,)}
    others |= {f"lstm_init_state/{name}": (1, lstm_size) for name in ("hidden", "cell")}
    layers = {
        "lstm/linear": ("rnn_params/rnn/linear", _RECURRENT_TENSOR_INPUTS + lstm_size, 4 * lstm_size),
        "output_0": ("rnn_to_ff_params/rnn_to_ff", lstm_size, LSTM_TO_MLP),
        "output_1": ("rnn_to_in_params/rnn_to_in", lstm_size, LSTM_TO_LSTM),
    }
    for name, before, after in layers.values():
        others |= {f"{name}/w": (before, after), f"{name}/b": (after,)}
    names = _layers(arrays, RECURRENT_PREFIX + "{}/{}")
    hidden_sizes, network = _network(arrays, names, _RECURRENT_INPUTS, 2 + MLP_TO_LSTM, others)
    theta = {
        "network": network,
        "lstm": {ours: {each: arrays[f"{name}/{each}"] for each in ("w", "b")} for ours, (name, *_) in layers.items()},
        "first_state": {name: arrays[f"lstm_init_state/{name}"][0] for name in ("hidden", "cell")},
        "first_from_mlp": arrays["initial_from_mlp"],
        "first_from_lstm": arrays["initial_from_lstm"],
    }
    return optimizers.hierarchical_mlp(hidden_sizes, lstm_size, **settings), theta


def _with_decays(arrays, decays, settings):
    if not any(f"{name}_decays" in arrays for name in _DECAYS):
        arrays = {**arrays, **{f"{name}_decays": np.array(values, np.float32) for name, values in decays.items()}}
    return convert_factored(arrays, settings)


def _layers(arrays, pattern):
    """The names of weights and biases of the layers that a file has. `pattern` has places for number and "w" or "b"."""
    count = depth(arrays, pattern.format(r"\d+", "w"))
    return [(pattern.format(i, "w"), pattern.format(i, "b")) for i in range(max(count, 2))]


def _network(arrays, names, num_inputs, num_outputs, others):
    """The widths of the hidden layers, and our theta of the network. `others` are shapes of what else there must be."""
    widths = [num_inputs, *(f"hidden {i + 1}" for i in range(len(names) - 1)), num_outputs]
    shapes = dict(others)
    for (w, b), before, after in zip(names, widths[:-1], widths[1:], strict=True):
        shapes |= {w: (before, after), b: (after,)}
    found = sizes(arrays, shapes)
    ours = ["linear", *(f"linear_{i}" for i in range(1, len(names)))]
    network = {name: {"w": arrays[w], "b": arrays[b]} for name, (w, b) in zip(ours, names, strict=True)}
    return [found[name] for name in widths[1:-1]], network
