"""The network of VeLO, Celo and Celo2 that sees the features of a coordinate, from the reference's names to ours.

In the reference the first layer is a sum of products: each of 14 groups of features has an array of weights. Here it
is one matrix of 30 rows, in the order of `learned_optim.factored_features`. The reference's network has three outputs,
of which the third, in Celo2 the second too, reaches no update. They are left out.
"""

import itertools

import numpy as np

from learned_optim.base import Theta
from learned_optim.convert.arrays import Arrays
from learned_optim.convert.arrays import Shape
from learned_optim.convert.arrays import depth

PREFIX = "ff_mod_stack/~/"
GROUP_SIZES = (1, 1, 1, 3, 1, 3, 1, 3, 1, 3, 3, 3, 3, 3)
NUM_OUTPUTS = 3
_ORDER = (0, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 1, 8)  # the clipped gradient and g/√v are our last features


def shapes(arrays: Arrays, stacked: tuple[int | str, ...]) -> dict[str, Shape]:
    """The shapes of the network's arrays, for as many hidden layers as the file has.

    Args:
      arrays: what the file holds.
      stacked: leading sizes of each array, such as the number of networks.

    Returns:
      Shapes for `arrays.sizes`, which will find the widths of the hidden layers under "hidden 1", "hidden 2", ….
    """
    num_hidden = depth(arrays, PREFIX + r"w[1-9]\d*") or 1
    widths = [*(f"hidden {i + 1}" for i in range(num_hidden)), NUM_OUTPUTS]
    found: dict[str, Shape] = {f"{PREFIX}w0__{i}": (*stacked, n, widths[0]) for i, n in enumerate(GROUP_SIZES)}
    found[f"{PREFIX}b0"] = (*stacked, widths[0])
    for i, (before, after) in enumerate(itertools.pairwise(widths), start=1):
        found |= {f"{PREFIX}w{i}": (*stacked, before, after), f"{PREFIX}b{i}": (*stacked, after)}
    return found


def hidden_sizes(sizes: dict[str, int]) -> tuple[int, ...]:
    """The widths of the hidden layers, from what `arrays.sizes` found for `shapes`."""
    return tuple(size for name, size in sizes.items() if name.startswith("hidden "))


def convert(arrays: Arrays, num_outputs: int) -> Theta:
    """Makes our theta of the network.

    Args:
      arrays: float32 arrays with the names and shapes of `shapes`.
      num_outputs: how many outputs have an effect on updates.

    Returns:
      `{"linear": {"w", "b"}, "linear_1": …}`, float32: `w` of the first layer is [..., 30, hidden size].
    """
    num_hidden = depth(arrays, PREFIX + r"w[1-9]\d*")
    layers = {"linear": {"w": np.concatenate([arrays[f"{PREFIX}w0__{i}"] for i in _ORDER], axis=-2)}}
    layers["linear"]["b"] = arrays[f"{PREFIX}b0"]
    for i in range(1, num_hidden + 1):
        layers[f"linear_{i}"] = {name: arrays[f"{PREFIX}{name}{i}"] for name in ("w", "b")}
    last = layers[f"linear_{num_hidden}"]
    layers[f"linear_{num_hidden}"] = {name: array[..., :num_outputs] for name, array in last.items()}
    return layers
