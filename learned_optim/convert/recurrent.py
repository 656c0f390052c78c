"""The recurrent network of VeLO and Celo, from the reference's names to ours.

In the reference the layer `linear` is computed and not used. It is left out.
"""

import numpy as np

from learned_optim.base import Theta
from learned_optim.convert.arrays import Arrays
from learned_optim.convert.arrays import Shape
from learned_optim.tensor_features import NUM_LOSS_FEATURES
from learned_optim.tensor_features import PROGRESS_MARKS


def lstm_size(arrays: Arrays) -> int:
    """The units of the LSTM, by the size of its first state, or 1 if there is none."""
    shape = arrays["lstm_init_state/hidden"].shape if "lstm_init_state/hidden" in arrays else ()
    return shape[-1] if shape else 1


def shapes(arrays: Arrays, num_inputs: int, outputs: dict[str, int | str]) -> dict[str, Shape]:
    """The shapes of the network's arrays, for `arrays.sizes`.

    Args:
      arrays: what the file holds.
      num_inputs: inputs of the network, without its state.
      outputs: the layers after the LSTM, with their widths.
    """
    size = lstm_size(arrays)
    layers = {name: (num_inputs, size) for name in ("linear", "linear_1", "linear_2")}
    layers |= {"rnn/linear": (2 * size, 4 * size)} | {name: (size, width) for name, width in outputs.items()}
    found: dict[str, Shape] = {f"lstm_init_state/{name}": (1, size) for name in ("hidden", "cell")}
    for name, (before, after) in layers.items():
        found |= {f"rnn_params/{name}/w": (before, after), f"rnn_params/{name}/b": (after,)}
    return found


def convert(arrays: Arrays, outputs: tuple[str, ...]) -> Theta:
    """Makes our theta of the network.

    Args:
      arrays: float32 arrays with the names and shapes of `shapes`.
      outputs: names of the layers whose outputs have an effect on updates, in our order.

    Returns:
      The entries "lstm", "first_state" and "unknown" of theta, float32. The reference requires number of steps and
      loss, and has no constants for their absence: "unknown" is zero.
    """
    names = {"mix_max": "linear_1", "mix_own": "linear_2", "lstm/linear": "rnn/linear"}
    names |= {f"output_{i}": output for i, output in enumerate(outputs)}
    return {
        "lstm": {
            ours: {each: arrays[f"rnn_params/{theirs}/{each}"] for each in ("w", "b")} for ours, theirs in names.items()
        },
        "first_state": {name: arrays[f"lstm_init_state/{name}"][0] for name in ("hidden", "cell")},
        "unknown": {
            "progress": np.zeros(len(PROGRESS_MARKS), np.float32),
            "loss": np.zeros(NUM_LOSS_FEATURES, np.float32),
        },
    }
