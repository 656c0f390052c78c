"""Cells: small graphs whose edges are operations to choose from, all of them mixed while a search goes on.

Liu, Simonyan, Yang 2019, "DARTS: Differentiable Architecture Search", https://arxiv.org/abs/1806.09055

Deviations: a cell has one input, the cell before it, and not two; there is one kind of cell, and pooling between cells
in place of cells that reduce; no batch statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
import functools
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.problems.cell_operations import Operation

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float
    from jaxtyping import Int


class CellSpace(NamedTuple):
    """The cells to choose from.

    Node 0 is the input. Node j, from 1 on, is the sum of what the edges from all earlier nodes give. An architecture
    tells for each edge the operation on it. The output is all nodes but the input, end to end along the channels.

    Fields:
      operations: what an edge can be, besides being left out.
      num_nodes: nodes, the input not counted.
      edges_per_node: the most edges that a node of a chosen cell has.
    """

    operations: tuple[Operation, ...]
    num_nodes: int = 3
    edges_per_node: int = 2

    @property
    def edges(self) -> list[tuple[int, int]]:
        """`(from node, to node)` of each edge, in the order of all arrays that have an axis of edges."""
        return [(source, node) for node in range(1, self.num_nodes + 1) for source in range(node)]

    @property
    def num_choices(self) -> int:
        """Choices for an edge: 0 leaves it out, k is operation k - 1."""
        return 1 + len(self.operations)


def cell_space(operations: Sequence[Operation], *, num_nodes: int = 3, edges_per_node: int = 2) -> CellSpace:
    """Builds a `CellSpace`.

    Args:
      operations: what an edge can be, besides being left out; `picture_operations` has those of pictures.
      num_nodes: nodes of a cell, the input not counted.
      edges_per_node: the most edges into a node that a chosen cell keeps.

    Raises:
      ValueError: if there is no operation, two have the same name, or a number is below 1.

    Example: three nodes have six edges.
      >>> from meta_train.problems import picture_operations
      >>> space = cell_space(picture_operations(), num_nodes=3)
      >>> space.edges
      [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    """
    names = [operation.name for operation in operations]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"a cell needs operations of different names, got {names}.")
    if num_nodes < 1 or edges_per_node < 1:
        raise ValueError(f"num_nodes and edges_per_node must be at least 1, got {num_nodes} and {edges_per_node}.")
    return CellSpace(tuple(operations), num_nodes, edges_per_node)


def init_cell(key: jax.Array, space: CellSpace, channels: int) -> list[Any]:
    """Draws the parameters of all operations on all edges: a list by operation, with leaves [edges, ...]."""
    keys = jax.random.split(key, (len(space.operations), len(space.edges)))
    return [
        jax.vmap(functools.partial(operation.init, channels=channels))(own)
        for operation, own in zip(space.operations, keys, strict=True)
    ]


def apply_cell(space: CellSpace, params: Any, architecture: jax.Array, features: jax.Array) -> jax.Array:
    """Applies a cell to features.

    Args:
      space: the cell's.
      params: from `init_cell`.
      architecture: float[edges, choices], the weights with which the operations are mixed; or int32[edges], the chosen
        ones. Of a chosen cell only its operations are computed, except under vmap over architectures.
      features: float[..., channels].

    Returns:
      float[..., num_nodes * channels].
    """
    chosen = jnp.issubdtype(architecture.dtype, jnp.integer)
    # A chosen edge keeps nothing for the way back: JAX would make zeros in place of what all other branches keep.
    edge = jax.checkpoint(_chosen_edge, static_argnums=0, prevent_cse=False) if chosen else _mixed_edge

    def add(values, at):
        source, node, own, choice = at
        return values.at[node].add(edge(space.operations, own, choice, values[source])), None

    values = jnp.zeros((1 + space.num_nodes, *features.shape), features.dtype).at[0].set(features)
    sources, nodes = np.array(space.edges, np.int32).T
    values, _ = jax.lax.scan(add, values, (sources, nodes, params, architecture))  # one edge to compile
    return jnp.concatenate(list(values[1:]), axis=-1)


def _mixed_edge(operations, params, weights, features):
    outputs = (operation.apply(own, features) for operation, own in zip(operations, params, strict=True))
    return sum(weights[k] * output for k, output in enumerate(outputs, start=1))


def _chosen_edge(operations, params, choice, features):
    branches = [lambda params, features: jnp.zeros_like(features)]
    for k, operation in enumerate(operations):
        branches.append(lambda params, features, k=k, operation=operation: operation.apply(params[k], features))
    return jax.lax.switch(choice, branches, params, features)


def discretize(space: CellSpace, theta: Float[Array | np.ndarray, "edges choices"]) -> Int[np.ndarray, " edges"]:
    """Chooses a cell from the logits of a search, as DARTS does.

    Each edge gets its operation of the largest weight. Each node keeps its edges whose operations have the largest
    weights; to leave an edge out competes for weight, but is never chosen by itself.

    Args:
      space: what theta is about.
      theta: logits, of which each edge's softmax is its weights.

    Returns:
      int32[edges], the choices.

    Raises:
      ValueError: if theta has another shape, or is not finite.

    Example: a node with two edges, of which one is kept; operation 1 is the choice 2.
      >>> from meta_train.problems import picture_operations
      >>> space = cell_space(picture_operations()[:2], num_nodes=2, edges_per_node=1)
      >>> discretize(space, np.array([[0.0, 0.0, 1.0], [5.0, 0.0, 0.1], [0.0, 3.0, 0.0]])).tolist()
      [2, 0, 1]
    """
    theta = np.asarray(theta, np.float64)
    expected = (len(space.edges), space.num_choices)
    if theta.shape != expected or not np.isfinite(theta).all():
        raise ValueError(f"theta must be finite numbers of shape {expected}, edges by choices, got {theta.shape}.")
    weights = np.exp(theta - theta.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    best = 1 + weights[:, 1:].argmax(axis=1)
    strength = weights[np.arange(len(theta)), best]
    choices = np.zeros(len(theta), np.int32)
    for node in range(1, space.num_nodes + 1):
        own = [i for i, (_, to) in enumerate(space.edges) if to == node]
        for i in sorted(own, key=lambda i: -strength[i])[: space.edges_per_node]:
            choices[i] = best[i]
    return choices


def random_cells(space: CellSpace, count: int, *, seed: int = 0) -> Int[np.ndarray, "count edges"]:
    """Draws cells of the space that `discretize` chooses from: the baseline of every search.

    Args:
      space: what to draw from.
      count: how many; equal ones may be among them.
      seed: of the draw.

    Returns:
      int32[count, edges], choices. Each node has as many edges as it can, drawn uniformly, as are their operations.

    Example:
      >>> from meta_train.problems import picture_operations
      >>> cells = random_cells(cell_space(picture_operations(), num_nodes=3), 100)
      >>> np.sum(cells > 0, axis=1).tolist() == [5] * 100  # one edge into node 1, two into the others
      True
    """
    random = np.random.default_rng(seed)
    cells = np.zeros((count, len(space.edges)), np.int32)
    for cell in cells:
        for node in range(1, space.num_nodes + 1):
            own = [i for i, (_, to) in enumerate(space.edges) if to == node]
            for i in random.permutation(own)[: space.edges_per_node]:
                cell[i] = random.integers(1, space.num_choices)
    return cells


def mixing_weights(
    space: CellSpace, choices: Int[Array | np.ndarray, "*batch edges"]
) -> Float[Array, "*batch edges choices"]:
    """A chosen cell as mixing weights: ones for what is chosen, float32[*batch, edges, choices].

    Under vmap over architectures this is the same program for all of them.

    Example:
      >>> from meta_train.problems import picture_operations
      >>> space = cell_space(picture_operations()[:2], num_nodes=1)
      >>> mixing_weights(space, jnp.array([2])).tolist()
      [[0.0, 0.0, 1.0]]
    """
    return jax.nn.one_hot(choices, space.num_choices, dtype=jnp.float32)


def describe_cell(space: CellSpace, choices: Int[Array | np.ndarray, " edges"]) -> str:
    """A chosen cell as text, such as "1 = conv3x3(0), 2 = identity(0) + conv3x3(1)".

    Example:
      >>> from meta_train.problems import picture_operations
      >>> describe_cell(cell_space(picture_operations(), num_nodes=2), np.array([1, 0, 3]))
      '1 = identity(0), 2 = conv1x1(1)'
    """
    terms: dict[int, list[str]] = {node: [] for node in range(1, space.num_nodes + 1)}
    for (source, node), choice in zip(space.edges, np.asarray(choices), strict=True):
        if choice > 0:
            terms[node].append(f"{space.operations[choice - 1].name}({source})")
    return ", ".join(f"{node} = {' + '.join(each) or 0}" for node, each in terms.items())
