"""What optimizers with an LSTM for each coordinate share: its state, and how a tensor passes through it."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import jax
import jax.numpy as jnp

from learned_optim import networks
from learned_optim.base import LearnedOptimizer
from learned_optim.base import TensorSlot
from learned_optim.base import zeros
from learned_optim.networks import LSTMState

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float32


def slots(hidden_size: int, num_layers: int, *, by_units: bool) -> tuple[LSTMState, ...]:
    """The state of an LSTM for each coordinate, all zeros, as slots of a rule.

    Args:
      hidden_size: units of a layer.
      num_layers: layers.
      by_units: float32[hidden_size, coordinates] for a tensor, or else float32[*shape, hidden_size].

    Returns:
      An `LSTMState` of slots for each layer.
    """

    def by_coordinates(param):
        return jnp.broadcast_to(zeros(param)[..., None], (*param.shape, hidden_size))

    rows = TensorSlot(lambda param: jnp.zeros((hidden_size, param.size), jnp.float32))
    slot = rows if by_units else by_coordinates
    return (LSTMState(slot, slot),) * num_layers


def draw(key: jax.Array, hidden_size: int, num_layers: int, num_inputs: int) -> Any:
    """Random weights of `networks.coordinatewise_lstm`."""
    zero = jnp.zeros((1, hidden_size), jnp.float32)
    state = (LSTMState(zero, zero),) * num_layers
    return networks.coordinatewise_lstm(hidden_size, num_layers).init(
        key, jnp.zeros((1, num_inputs), jnp.float32), state
    )


def advance(
    weights: Any,
    inputs: Sequence[Float32[Array, "*shape"]],
    state: tuple[LSTMState, ...],
    *,
    by_units: bool,
    layer: Any = None,
) -> tuple[Float32[Array, "*shape"], tuple[LSTMState, ...]]:
    """Passes the coordinates of a tensor through their LSTMs, in blocks that fit the processor's cache.

    Args:
      weights: of `networks.coordinatewise_lstm`.
      inputs: what the network sees of each coordinate, arrays of the tensor's shape.
      state: what `slots` holds for the tensor, with the same `by_units`.
      by_units: a row for each unit, for a fast derivative, see `networks.lstm_by_units`.
      layer: weights "w" and biases "b" of an ELU layer between the inputs and the LSTM; None: there is none.

    Returns:
      `(output, state)`, with an output for each coordinate.
    """
    shape = inputs[0].shape
    if by_units:
        rows = jnp.stack([x.reshape(-1) for x in inputs])
        if layer is not None:
            rows = jax.nn.elu(layer["w"].T @ rows + layer["b"][:, None])
        output, state = networks.lstm_by_units(weights, rows, state)
        return output.reshape(shape), state
    hidden_size, num_layers = state[0].hidden.shape[-1], len(state)
    network = networks.coordinatewise_lstm(hidden_size, num_layers)

    def block(arrays):
        columns, state = arrays
        x = jnp.concatenate(columns, axis=1)
        if layer is not None:
            x = jax.nn.elu(x @ layer["w"] + layer["b"][None])
        return network.apply(weights, x, state)

    columns = [x.reshape(-1, 1) for x in inputs]
    flat = jax.tree.map(lambda slot: slot.reshape(-1, hidden_size), state)
    output, flat = networks.in_blocks(block, (columns, flat), 4 * hidden_size)
    return output.reshape(shape), jax.tree.map(lambda x: x.reshape(*shape, hidden_size), flat)


def rebuilt_by_units(
    optimizer: LearnedOptimizer, kind: str, build: Callable[..., LearnedOptimizer], **defaults: Any
) -> LearnedOptimizer:
    """The same optimizer with a state by units.

    Args:
      optimizer: of that kind.
      kind: the kind that `build` builds.
      build: takes the numbers of the optimizer's spec, and `by_units`.
      **defaults: of numbers that a spec may leave out.

    Raises:
      ValueError: if the optimizer is of another kind.
    """
    if optimizer.spec["kind"] != kind:
        raise ValueError(f"by_units needs a {kind}, got a {optimizer.spec['kind']}.")
    arguments = {name: value for name, value in optimizer.spec.items() if name not in ("kind", "feature_version")}
    return build(**{**defaults, **arguments}, by_units=True)
