"""The Haiku networks inside learned optimizers; one set of weights serves all coordinates of a tensor.

Arrays of coordinates have the coordinate as their *last* axis where a network is narrow (`per_parameter_mlp`): each
feature is then contiguous, which is what vectorised elementwise code wants. `unrolled_mlp` goes one step further.
"""

from collections.abc import Sequence
import operator

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

_INDEPENDENT_SUMS = 8  # a fused multiply-add takes four cycles, of which two can start in each
_UNROLLED_WIDTH = 16  # outputs of the widest layer that `unrolled_linear` unrolls


def per_parameter_mlp(hidden_sizes: Sequence[int], num_outputs: int) -> hk.Transformed:
    """A ReLU network over coordinates, some of whose inputs are the same for all of them.

    Returns:
      `apply(theta, features, shared) -> outputs` with float32 `features` [num_features, n], `shared` [num_shared] and
      `outputs` [num_outputs, n]. The shared inputs enter the first layer once, as a bias.
    """

    def network(features: jax.Array, shared: jax.Array) -> jax.Array:
        hidden = _ColumnLinear((*hidden_sizes, num_outputs)[0])(features, shared)
        for size in (*hidden_sizes, num_outputs)[1:]:
            hidden = _ColumnLinear(size)(jax.nn.relu(hidden))
        return hidden

    return hk.without_apply_rng(hk.transform(network))


def check_sizes(hidden_sizes: Sequence[int]) -> tuple[int, ...]:
    """Returns the sizes of hidden layers as a tuple of ints, or raises ValueError if they are not."""
    try:
        sizes = tuple(operator.index(size) for size in hidden_sizes)
    except TypeError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise ValueError(
            "hidden_sizes must be a non-empty sequence of whole numbers from 1 on, such as (32, 32), "
            f"got {hidden_sizes!r}."
        )
    return sizes


def unrolled_mlp(hidden_sizes: Sequence[int], num_outputs: int) -> hk.Transformed:
    """The network of `per_parameter_mlp`, for features that are arrays of their own instead of rows of one array.

    Returns:
      `apply(theta, features, scales, shared) -> outputs`: `features` is a sequence of float32 arrays that broadcast to
      one shape, `scales` [num_features] their factors, `shared` [num_shared] the inputs that are the same for all
      coordinates, and `outputs` a list of num_outputs arrays of that shape.
    """

    def network(features: Sequence[jax.Array], scales: jax.Array, shared: jax.Array) -> list[jax.Array]:
        split = len(features)
        w, b = _ColumnLinear((*hidden_sizes, num_outputs)[0]).weights(split + shared.shape[0])
        hidden = unrolled_linear(w[:split] * scales[:, None], b + shared @ w[split:], features)
        for size in (*hidden_sizes, num_outputs)[1:]:
            w, b = _ColumnLinear(size).weights(len(hidden))
            hidden = unrolled_linear(w, b, [relu(x) for x in hidden])
        return hidden

    return hk.without_apply_rng(hk.transform(network))


def unrolled_linear(w: jax.Array, b: jax.Array, inputs: Sequence[jax.Array]) -> list[jax.Array]:
    """A linear layer as sums of scalar times array, which XLA fuses into one loop with what makes and uses its inputs.

    A stack of the inputs is never in memory. Two exceptions are dot products: inputs that are smaller than the others
    (rows and columns, which broadcast) come together first, and a layer wider than 16 would take long to compile.

    Args:
      w: float32[len(inputs), num_outputs].
      b: float32[num_outputs].
      inputs: float32 arrays that broadcast to one shape.

    Returns:
      num_outputs arrays of that shape.
    """
    shapes = [x.shape for x in inputs]
    unrolled = jnp.broadcast_shapes(*shapes) if w.shape[1] <= _UNROLLED_WIDTH else None
    outputs = list(b)
    chains = -(-_INDEPENDENT_SUMS // w.shape[1])
    for shape in dict.fromkeys(shapes):
        members = [i for i, other in enumerate(shapes) if other == shape]
        if shape == unrolled:
            terms = [_chains([w[i, j] * inputs[i] for i in members], chains) for j in range(w.shape[1])]
        else:
            weights = jnp.stack([w[i] for i in members], axis=1)  # [num_outputs, members]
            terms = list(jnp.tensordot(weights, jnp.stack([inputs[i] for i in members]), axes=1))
        outputs = [output + term for output, term in zip(outputs, terms, strict=True)]
    return outputs


def _chains(terms, count):
    """The sum of the terms as up to `count` sums that do not wait for each other."""
    return sum(sum(terms[i::count]) for i in range(min(count, len(terms))))


def relu(x: jax.Array) -> jax.Array:
    """The larger of x and 0, NaN for NaN: on CPUs a select takes a third of the instructions of a maximum."""
    return jnp.where(x < 0.0, 0.0, x)


def coordinatewise_lstm(hidden_size: int, num_layers: int) -> hk.Transformed:
    """A stack of LSTM layers and a linear output, with a hidden state per coordinate.

    Returns:
      `apply(theta, inputs, state) -> (output, state)` with float32 `inputs` [n, num_inputs], `output` [n], and
      `state` a tuple of `2 * num_layers` arrays [n, hidden_size]: hidden and cell of the first layer, then the next.
    """

    def network(inputs: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        new_state = []
        for layer in range(num_layers):
            previous = hk.LSTMState(*state[2 * layer : 2 * layer + 2])
            inputs, current = hk.LSTM(hidden_size, name=f"lstm_{layer}")(inputs, previous)
            new_state += [current.hidden, current.cell]
        return hk.Linear(1, name="linear")(inputs)[:, 0], tuple(new_state)

    return hk.without_apply_rng(hk.transform(network))


def tensor_lstm(hidden_size: int, output_sizes: Sequence[int], *, mixing: bool) -> hk.Transformed:
    """An LSTM with one row for each tensor, followed by linear outputs.

    Args:
      hidden_size: units of the LSTM.
      output_sizes: widths of the outputs.
      mixing: whether rows learn of each other: a linear map of each row's inputs, plus the maximum over all rows of a
        network of two ReLU layers, then takes the place of the inputs. It needs at least one row.

    Returns:
      `apply(theta, inputs, state) -> (outputs, state)` with float32 `inputs` [n, num_inputs], `state` a pair of arrays
      [n, hidden_size], hidden and cell, and `outputs` a tuple of arrays [n, output size].
    """

    def network(
        inputs: jax.Array, state: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, jax.Array]]:
        if mixing:
            first = jax.nn.relu(hk.Linear(hidden_size, name="mix_first")(inputs))
            second = jax.nn.relu(hk.Linear(hidden_size, name="mix_second")(first))
            inputs = hk.Linear(hidden_size, name="mix_own")(inputs) + jnp.max(second, axis=0, keepdims=True)
        hidden, current = hk.LSTM(hidden_size, name="lstm")(inputs, hk.LSTMState(*state))
        outputs = [hk.Linear(size, name=f"output_{i}")(hidden) for i, size in enumerate(output_sizes)]
        return tuple(outputs), (current.hidden, current.cell)

    return hk.without_apply_rng(hk.transform(network))


class _ColumnLinear(hk.Module):
    """A linear layer on inputs [num_inputs, n], with further inputs [num_shared] that are the same in all columns."""

    def __init__(self, output_size: int):
        super().__init__(name="linear")
        self._output_size = output_size

    def __call__(self, inputs: jax.Array, shared: jax.Array | None = None) -> jax.Array:
        split = inputs.shape[0]
        w, b = self.weights(split if shared is None else split + shared.shape[0])
        bias = b if shared is None else b + shared @ w[split:]
        return jnp.einsum("io,in->on", w[:split], inputs) + bias[:, None]

    def weights(self, num_inputs: int) -> tuple[jax.Array, jax.Array]:
        """Weights float32[num_inputs, output_size] and biases float32[output_size]."""
        init = hk.initializers.TruncatedNormal(float(1.0 / np.sqrt(num_inputs)))
        w = hk.get_parameter("w", (num_inputs, self._output_size), jnp.float32, init)
        b = hk.get_parameter("b", (self._output_size,), jnp.float32, jnp.zeros)
        return w, b
