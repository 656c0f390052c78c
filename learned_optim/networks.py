"""The Haiku networks inside learned optimizers. One set of weights serves all coordinates of a tensor.

A tensor's features are never stored as one array. The layers of a narrow network are sums of products of scalars and
arrays: XLA fuses them into one loop with the code that computes their inputs and uses their outputs
(`per_parameter_mlp`). The layers of a wide network are matrix products: it processes the tensor in blocks that fit the
processor's cache (`in_blocks`).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import math
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple
from typing import TypeAlias

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float32

Network: TypeAlias = hk.Transformed
"""A pair of pure functions: `init(key, *inputs) -> theta` and `apply(theta, *inputs) -> outputs`."""

_BLOCK = 1 << 14  # coordinates in a block: float32[32, 16384] is 2 MB
_INDEPENDENT_SUMS = 8  # a fused multiply-add takes four cycles, and two can start in each cycle
_UNROLLED_WIDTH = 16  # outputs of the widest layer that is unrolled; wider layers take long to compile


class LSTMState(NamedTuple):
    """State of an LSTM layer: float32[n, hidden_size] each, with a row for each coordinate or tensor."""

    hidden: Any
    cell: Any


def per_parameter_mlp(hidden_sizes: Sequence[int], num_outputs: int) -> Network:
    """A ReLU network that maps the features of each coordinate to outputs for it.

    Returns:
      `apply(theta, features, scales, shared) -> outputs`. `features` is a sequence of float32 arrays that broadcast to
      one shape, and `scales` [num_features] holds a factor for each. `shared` [num_shared] are inputs that are the same
      for all coordinates; they enter the first layer as a bias. `outputs` is a list of num_outputs arrays.
    """

    def network(features: Sequence[jax.Array], scales: jax.Array, shared: jax.Array) -> list[jax.Array]:
        split = len(features)
        first, *rest = (*hidden_sizes, num_outputs)
        w, b = _linear(first, split + shared.shape[0])
        w, b = w[:split] * scales[:, None], b + shared @ w[split:]
        if max(hidden_sizes) <= _UNROLLED_WIDTH:
            hidden = unrolled_linear(w, b, features)
            for before, size in zip((first, *rest), rest, strict=False):
                hidden = unrolled_linear(*_linear(size, before), [relu(x) for x in hidden])
            return hidden
        hidden = _column_linear(w, b, jnp.stack(jnp.broadcast_arrays(*features)))
        for before, size in zip((first, *rest), rest, strict=False):
            hidden = _column_linear(*_linear(size, before), relu(hidden))
        return list(hidden)

    return hk.without_apply_rng(hk.transform(network))


def truncated_normal(key: jax.Array, num_inputs: int, num_outputs: int) -> Float32[Array, "{num_inputs} {num_outputs}"]:
    """Random weights of deviation 1 / √num_inputs, truncated at twice that."""
    return jax.random.truncated_normal(key, -2.0, 2.0, (num_inputs, num_outputs), jnp.float32) / math.sqrt(num_inputs)


def unrolled_linear(
    w: Float32[Array, "{len(inputs)} num_outputs"],
    b: Float32[Array, " num_outputs"],
    inputs: Sequence[Float32[Array, " ..."]],
) -> list[Float32[Array, " ..."]]:
    """A linear layer as sums of scalar times array, which XLA fuses with the code around it into one loop.

    The inputs are never stacked in memory. Inputs that are smaller than the others (rows and columns, which broadcast)
    are combined first, by a dot product.

    Args:
      w: weights, a row for each input.
      b: biases.
      inputs: arrays that broadcast to one shape.

    Returns:
      num_outputs arrays of that shape.
    """
    shapes = [x.shape for x in inputs]
    full = jnp.broadcast_shapes(*shapes)
    outputs = list(b)
    chains = -(-_INDEPENDENT_SUMS // w.shape[1])
    for shape in dict.fromkeys(shapes):
        members = [i for i, other in enumerate(shapes) if other == shape]
        if shape == full:
            terms = [_chains([w[i, j] * inputs[i] for i in members], chains) for j in range(w.shape[1])]
        else:
            weights = jnp.stack([w[i] for i in members], axis=1)  # [num_outputs, members]
            terms = list(jnp.tensordot(weights, jnp.stack([inputs[i] for i in members]), axes=1))
        outputs = [output + term for output, term in zip(outputs, terms, strict=True)]
    return outputs


def _column_linear(w, b, inputs):
    """A linear layer from float32[num_inputs, ...] to float32[num_outputs, ...]."""
    return jnp.tensordot(w.T, inputs, axes=1) + b.reshape(-1, *[1] * (inputs.ndim - 1))


def _chains(terms, count):
    """Sums the terms as up to `count` independent sums, which the processor can compute in parallel."""
    return sum(sum(terms[i::count]) for i in range(min(count, len(terms))))


def relu(x: Float32[Array, "*shape"]) -> Float32[Array, "*shape"]:
    """The larger of x and 0; NaN stays NaN. XLA compiles this select to a single instruction on x86 processors."""
    return jnp.where(x < 0.0, 0.0, x)


def coordinatewise_lstm(hidden_size: int, num_layers: int) -> Network:
    """A stack of LSTM layers and a linear output, with a state per coordinate.

    Returns:
      `apply(theta, inputs, state) -> (output, state)` with float32 `inputs` [n, num_inputs] and `output` [n]. `state`
      is a tuple with an `LSTMState` for each layer.
    """

    def network(inputs: jax.Array, state: tuple[LSTMState, ...]) -> tuple[jax.Array, tuple[LSTMState, ...]]:
        new_state = []
        for layer in range(num_layers):
            previous = hk.LSTMState(*state[layer])
            inputs, current = hk.LSTM(hidden_size, name=f"lstm_{layer}")(inputs, previous)
            new_state.append(LSTMState(current.hidden, current.cell))
        return hk.Linear(1, name="linear")(inputs)[:, 0], tuple(new_state)

    return hk.without_apply_rng(hk.transform(network))


def lstm_by_units(theta: Any, inputs: jax.Array, state: tuple[LSTMState, ...]) -> tuple[jax.Array, Any]:
    """The network of `coordinatewise_lstm` for arrays whose last axis is the coordinates, and with a fast derivative.

    Long rows keep the processor's vector units busy. The derivative computes the gates again: writing them to memory
    and reading them takes longer.

    Args:
      theta: weights of `coordinatewise_lstm`.
      inputs: float32[num_inputs, n].
      state: an `LSTMState` of float32[hidden_size, n] for each layer.

    Returns:
      `(output, state)`, with `output` float32[n].
    """
    new_state = []
    for layer, (hidden, cell) in enumerate(state):
        weights = theta[f"lstm_{layer}/linear"]
        size = hidden.shape[0]
        bias = weights["b"].at[2 * size : 3 * size].add(1.0)  # of the forget gate
        inputs, cell = _lstm_layer(jnp.concatenate([weights["w"], bias[None]]), inputs, hidden, cell)
        new_state.append(LSTMState(inputs, cell))
    output = theta["linear"]["w"].T @ inputs  # [1, n]
    return output[0] + theta["linear"]["b"], tuple(new_state)


@jax.custom_vjp
def _lstm_layer(w, inputs, hidden, cell):
    """A layer by units: gates in Haiku's order (input, candidate, forget, output), the biases in the last row of w."""
    return _lstm_layer_forward(w, inputs, hidden, cell)[0]


def _lstm_layer_forward(w, inputs, hidden, cell):
    rows = jnp.concatenate([inputs, hidden, jnp.ones_like(inputs[:1])])
    *_, out, cell_out, squashed = _lstm_gates(w, rows, cell)
    return (out * squashed, cell_out), (w, rows, cell)


def _lstm_layer_backward(residuals, cotangents):
    w, rows, cell = residuals
    into, candidate, keep, out, _, squashed = _lstm_gates(w, rows, cell)
    d_hidden, d_cell = cotangents
    d_cell = d_cell + d_hidden * out * (1.0 - squashed * squashed)
    d_gates = jnp.concatenate(
        [
            d_cell * candidate * into * (1.0 - into),
            d_cell * into * (1.0 - candidate * candidate),
            d_cell * cell * keep * (1.0 - keep),
            d_hidden * squashed * out * (1.0 - out),
        ]
    )
    d_rows = w @ d_gates
    split = w.shape[0] - 1 - cell.shape[0]
    d_w = jax.lax.dot_general(d_gates, rows, (((1,), (1,)), ((), ()))).T
    return d_w, d_rows[:split], d_rows[split:-1], d_cell * keep


def _lstm_gates(w, rows, cell):
    """Returns the gates, the new cell and its tanh."""
    sigmoid = lambda x: 0.5 * jnp.tanh(0.5 * x) + 0.5  # XLA's tanh takes a third of the time of its logistic function
    into, candidate, keep, out = jnp.split(w.T @ rows, 4)
    into, candidate, keep, out = sigmoid(into), jnp.tanh(candidate), sigmoid(keep), sigmoid(out)
    cell = keep * cell + into * candidate
    return into, candidate, keep, out, cell, jnp.tanh(cell)


_lstm_layer.defvjp(_lstm_layer_forward, _lstm_layer_backward)


def tensor_lstm(hidden_size: int, output_sizes: Sequence[int], *, mixing_layers: int) -> Network:
    """An LSTM with one row for each tensor, followed by linear outputs.

    Args:
      hidden_size: units of the LSTM.
      output_sizes: widths of the outputs.
      mixing_layers: 1 or 2 if rows exchange information. Then the LSTM's input is a linear map of the row's own inputs
        plus the maximum over all rows of a network of as many ReLU layers. There must be at least one row. 0: the
        LSTM's input is the row's own.

    Returns:
      `apply(theta, inputs, state) -> (outputs, state)` with float32 `inputs` [n, num_inputs], an `LSTMState` of arrays
      [n, hidden_size], and `outputs` a tuple of arrays [n, output size].
    """

    layers = {0: (), 1: ("mix_max",), 2: ("mix_first", "mix_second")}[mixing_layers]

    def network(inputs: jax.Array, state: LSTMState) -> tuple[tuple[jax.Array, " ..."], LSTMState]:
        mixed = inputs
        for name in layers:
            mixed = jax.nn.relu(hk.Linear(hidden_size, name=name)(mixed))
        if layers:
            inputs = hk.Linear(hidden_size, name="mix_own")(inputs) + jnp.max(mixed, axis=0, keepdims=True)
        hidden, current = hk.LSTM(hidden_size, name="lstm")(inputs, hk.LSTMState(*state))
        outputs = [hk.Linear(size, name=f"output_{i}")(hidden) for i, size in enumerate(output_sizes)]
        return tuple(outputs), LSTMState(current.hidden, current.cell)

    return hk.without_apply_rng(hk.transform(network))


def in_blocks(function: Callable[[Any], Any], arrays: Any, widest: int) -> Any:
    """Computes `function(arrays)`, in blocks along the longest axis if its network is too wide to be unrolled.

    If an array is sharded along that axis, each block is gathered from the devices that hold it.

    Args:
      function: maps a pytree of arrays to a pytree of arrays. Entry i of a result along the longest axis depends only
        on entries i of the arguments.
      arrays: pytree of float32 arrays of one rank that broadcast to one shape.
      widest: number of outputs of the widest layer in `function`.
    """
    shape = np.broadcast_shapes(*(x.shape for x in jax.tree.leaves(arrays)))
    axis = int(np.argmax(shape)) if shape else 0
    rows = max(1, _BLOCK * shape[axis] // int(np.prod(shape))) if shape else 1
    if widest <= _UNROLLED_WIDTH or not shape or rows >= shape[axis]:
        return function(arrays)

    def block(start):
        cut = lambda x: x if x.shape[axis] == 1 else jax.lax.dynamic_slice_in_dim(x, start, rows, axis)
        return function(jax.tree.map(cut, arrays))

    def body(i, outputs):
        start = jnp.minimum(i * rows, shape[axis] - rows)  # the last block overlaps the one before
        put = lambda output, made: jax.lax.dynamic_update_slice_in_dim(output, made, start, axis)
        return jax.tree.map(put, outputs, block(start))

    whole = lambda made: jnp.zeros([*made.shape[:axis], shape[axis], *made.shape[axis + 1 :]], made.dtype)
    outputs = jax.tree.map(whole, jax.eval_shape(block, 0))
    return jax.lax.fori_loop(0, -(-shape[axis] // rows), body, outputs)


def _linear(output_size: int, num_inputs: int) -> tuple[jax.Array, jax.Array]:
    """Returns the weights float32[num_inputs, output_size] and biases float32[output_size] of a layer."""
    return _Linear(output_size, num_inputs)()


class _Linear(hk.Module):
    """Holds the weights of a layer under a name that Haiku chooses."""

    def __init__(self, output_size: int, num_inputs: int):
        super().__init__(name="linear")
        self._shape = (num_inputs, output_size)

    def __call__(self) -> tuple[jax.Array, jax.Array]:
        init = hk.initializers.TruncatedNormal(float(1.0 / np.sqrt(self._shape[0])))
        w = hk.get_parameter("w", self._shape, jnp.float32, init)
        b = hk.get_parameter("b", self._shape[1:], jnp.float32, jnp.zeros)
        return w, b
