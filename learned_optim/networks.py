"""The Haiku networks inside learned optimizers; one set of weights serves all coordinates of a tensor.

Arrays of coordinates have the coordinate as their *last* axis where a network is narrow (`per_parameter_mlp`): each
feature is then contiguous, which is what vectorised elementwise code wants.
"""

from collections.abc import Sequence
import operator

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np


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


class _ColumnLinear(hk.Module):
    """A linear layer on inputs [num_inputs, n], with further inputs [num_shared] that are the same in all columns."""

    def __init__(self, output_size: int):
        super().__init__(name="linear")
        self._output_size = output_size

    def __call__(self, inputs: jax.Array, shared: jax.Array | None = None) -> jax.Array:
        split = inputs.shape[0]
        num_inputs = split if shared is None else split + shared.shape[0]
        init = hk.initializers.TruncatedNormal(float(1.0 / np.sqrt(num_inputs)))
        w = hk.get_parameter("w", (num_inputs, self._output_size), jnp.float32, init)
        b = hk.get_parameter("b", (self._output_size,), jnp.float32, jnp.zeros)
        bias = b if shared is None else b + shared @ w[split:]
        return jnp.einsum("io,in->on", w[:split], inputs) + bias[:, None]
