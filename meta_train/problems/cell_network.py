"""Networks of cells that share an architecture."""

from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import jax.numpy as jnp

from meta_train.problems.cell import CellSpace
from meta_train.problems.cell import apply_cell
from meta_train.problems.cell import init_cell
from meta_train.tasks.convolution import convolve


class CellNetworkInitFn(Protocol):
    """Draws the parameters of all operations."""

    def __call__(self, key: jax.Array, inputs: jax.Array, /) -> Any:
        """Draws them.

        Args:
          key: random key.
          inputs: example pictures, float[n, height, width, channels].

        Returns:
          A pytree of arrays.
        """
        ...


class CellNetworkFn(Protocol):
    """Applies a network of cells."""

    def __call__(self, params: Any, architecture: jax.Array, inputs: jax.Array, /) -> jax.Array:
        """Applies it.

        Args:
          params: those of all operations, used or not.
          architecture: float[edges, choices], the weights with which operations are mixed, or int32[edges], the chosen
            ones; of these alone something is computed, except under vmap over architectures.
          inputs: pictures, float[n, height, width, channels].

        Returns:
          float[n, num_outputs].
        """
        ...


class CellNetwork(NamedTuple):
    """A network whose architecture is an argument.

    Fields:
      init: `(key, inputs) -> params`.
      apply: `(params, architecture, inputs) -> outputs`.
      space: what an architecture is.
    """

    init: CellNetworkInitFn
    apply: CellNetworkFn
    space: CellSpace


def cell_network(
    space: CellSpace, num_outputs: int, *, channels: int = 8, num_cells: int = 2, stride: int = 1
) -> CellNetwork:
    """Builds a network for pictures: a 3×3 convolution, cells with 2×2 mean-pooling between them, and a linear layer.

    A 1×1 convolution brings the nodes of a cell back to the channels of one. The last layer sees the mean of the
    features over all places.

    Args:
      space: the cells'.
      num_outputs: size of the last layer.
      channels: of the features.
      num_cells: cells, all of the same architecture, each with parameters of its own.
      stride: of the first convolution.

    Raises:
      ValueError: if a number is below 1.

    Example:
      >>> from meta_train.problems import cell_space, mixing_weights, picture_operations
      >>> network = cell_network(cell_space(picture_operations(), num_nodes=2), 10)
      >>> params = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
      >>> chosen = jnp.array([2, 0, 5])  # a 3×3 convolution, then max-pooling
      >>> jax.jit(network.apply)(params, chosen, jnp.ones((4, 8, 8, 1))).shape
      (4, 10)
    """
    for name, number in (
        ("num_outputs", num_outputs),
        ("channels", channels),
        ("num_cells", num_cells),
        ("stride", stride),
    ):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}.")
    nodes = space.num_nodes * channels

    def init(key, inputs):
        stem_key, head_key, *cell_keys = jax.random.split(key, 2 + 2 * num_cells)
        colors = inputs.shape[-1]
        return {
            "stem": _normal(stem_key, (3, 3, colors, channels), 9 * colors),
            "cells": [init_cell(key, space, channels) for key in cell_keys[:num_cells]],
            "joins": [_normal(key, (nodes, channels), nodes) for key in cell_keys[num_cells:]],
            "head": {"w": _normal(head_key, (channels, num_outputs), 2 * channels), "b": jnp.zeros(num_outputs)},
        }

    def apply(params, architecture, inputs):
        x = convolve(inputs, params["stem"], stride=stride)
        for i, (cell, join) in enumerate(zip(params["cells"], params["joins"], strict=True)):
            x = x if i == 0 else _halve(x)
            x = jax.nn.relu(apply_cell(space, cell, architecture, x)) @ join
        return jax.nn.relu(x).mean(axis=(1, 2)) @ params["head"]["w"] + params["head"]["b"]

    return CellNetwork(init, apply, space)


def _normal(key, shape, fan_in):
    return jax.random.normal(key, shape) * (2 / fan_in) ** 0.5


def _halve(x):
    """The mean of each 2×2 pixels; a last odd row or column is left out."""
    n, height, width, channels = x.shape
    if height < 2 or width < 2:
        return x
    rows, columns = height // 2, width // 2
    return x[:, : 2 * rows, : 2 * columns].reshape(n, rows, 2, columns, 2, channels).mean(axis=(2, 4))
