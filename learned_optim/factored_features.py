"""The per-parameter features that `factored_mlp` introduced and several later architectures share.

Metz, Harrison, Freeman, Merchant, Beyer, Bradbury, Agrawal, Poole, Mordatch, Roberts, Sohl-Dickstein 2022,
"Practical tradeoffs between memory, compute, and performance in learned optimizers" (adafac_mlp),
https://arxiv.org/abs/2203.11860

With m three momenta of the gradient g, v the moving average of g², r and c three moving averages of the mean of g² over
the rows and columns of the two largest dimensions, and F(x) = x / √(r / mean r) / √c, they are g, p, m, v, m/√v, 1/√v,
F(g), r, c, 1/√r, 1/√c, F(m), each divided by its root mean square over the tensor. Tensors with fewer than two
dimensions have moving averages of g² in place of r and c, and F(x) = x/√v.

No feature is ever in memory as a whole: `inputs` gives expressions that XLA fuses into the loop that uses them, and
their mean squares apart. What two sums over a tensor have in common, or such a sum and the loop that makes the update,
XLA would keep in memory. So some products are computed twice, in another order each time: a multiplication costs less.
"""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_optim import features
from learned_optim.base import momentum
from learned_optim.base import zeros

NUM_FEATURES = 28
NUM_EXTENDED_FEATURES = 30
MAX_RELATIVE_GRADIENT = 1000.0


class Decays(NamedTuple):
    """Decays of the moving averages: floats or arrays."""

    momentum: Sequence[float | jax.Array] | jax.Array = (0.9, 0.99, 0.999)
    rms: Sequence[float | jax.Array] | jax.Array = (0.999,)
    adafactor: Sequence[float | jax.Array] | jax.Array = (0.9, 0.99, 0.999)


def row(param: jax.Array) -> jax.Array:
    """A slot for r, the mean over the largest dimension. Tensors that are not factored keep all elements."""
    dims = features.factored_dims(param.shape)
    return zeros(param) if dims is None else _reduced(param, dims[1:])


def column(param: jax.Array) -> jax.Array:
    """A slot for c, the mean over the second largest dimension. Tensors that are not factored leave it at zero."""
    dims = features.factored_dims(param.shape)
    return _reduced(param, range(param.ndim) if dims is None else dims[:1])


DECAYS = Decays()
SLOTS = (momentum,) * 3 + (zeros,) + (row,) * 3 + (column,) * 3


def accumulate(
    grad: jax.Array, slots: Sequence[jax.Array], decays: Decays = DECAYS
) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """The slots after one more gradient, and the mean square of that gradient."""
    momenta = features.momenta(grad, slots[:3], decays.momentum)
    moment = features.second_moment(grad, slots[3], decays.rms[0])
    dims = features.factored_dims(grad.shape)
    if dims is None:
        rows = (features.second_moment(grad, r, d) for r, d in zip(slots[4:7], decays.adafactor, strict=True))
        return (*momenta, moment, *rows, *slots[7:]), features.mean_square(grad)
    second, largest = dims
    across = jnp.mean(jnp.square(grad), axis=largest, keepdims=True)
    down = jnp.sum((grad * (1.0 / grad.shape[second])) * grad, axis=second, keepdims=True)
    rows = features.momenta(jnp.minimum(across, features.MAX_GRADIENT**2), slots[4:7], decays.adafactor)
    columns = features.momenta(jnp.minimum(down, features.MAX_GRADIENT**2), slots[7:], decays.adafactor)
    grad_square = jnp.minimum(jnp.mean(across), features.MAX_MEAN_SQUARE)
    return (*momenta, moment, *rows, *columns), grad_square


def inputs(
    grad: jax.Array, param: jax.Array, slots: Sequence[jax.Array], grad_square: jax.Array, *, extended: bool = False
) -> tuple[list[jax.Array], jax.Array]:
    """The features before they are normalised, and their mean squares.

    Args:
      grad: the gradient.
      param: the parameter.
      slots: what `accumulate` gave.
      grad_square: the mean square of the gradient.
      extended: whether to add the two further features of VeLO, the gradient clipped to ±.1 and g/√v.

    Returns:
      28 (or 30) float32 arrays that broadcast to the tensor's shape, and float32[28 or 30].
    """
    momenta, moment, rows, columns = slots[:3], slots[3], slots[4:7], slots[7:]
    rsqrt = features.inverse_sqrt(moment + 1e-6)
    plain = [grad, param, *momenta, moment]
    adam = [m * rsqrt for m in momenta]
    adam_squares = [_quotient_square(m, rsqrt) for m in momenta]
    dims = features.factored_dims(grad.shape)
    if dims is None:
        columns = rows
        grads = [grad * features.inverse_sqrt(r + 1e-9) for r in rows]
        factored = [m * features.inverse_sqrt(r + 1e-6) for m, r in zip(momenta, rows, strict=True)]
        factored_squares = [features.mean_square(x) for x in (*grads, *factored)]
    else:
        second, largest = dims
        relative = [r / (jnp.mean(r, axis=second, keepdims=True) + 1e-9) for r in rows]
        across = [features.inverse_sqrt(jnp.maximum(r, 1e-9)) for r in relative]
        down = [features.inverse_sqrt(jnp.maximum(c, 1e-9)) for c in columns]
        factors = [a * d for a, d in zip(across, down, strict=True)]
        grads = [grad * factor for factor in factors]
        factored = [m * factor for m, factor in zip(momenta, factors, strict=True)]
        factored_squares = [_product_square(grad, a, d, second) for a, d in zip(across, down, strict=True)]
        factored_squares += [_product_square(m, d, a, largest) for m, a, d in zip(momenta, across, down, strict=True)]
    small = [*rows, *columns, *(features.inverse_sqrt(x + 1e-8) for x in (*rows, *columns))]
    arrays = [*plain, *adam, rsqrt, *grads, *small, *factored]
    mean_squares = [
        grad_square,
        *(features.mean_square(x) for x in plain[1:]),
        *adam_squares,
        features.mean_square(rsqrt),
        *factored_squares[:3],
        *(features.mean_square(x) for x in small),
        *factored_squares[3:],
    ]
    if extended:
        clipped = jnp.clip(grad, -0.1, 0.1)
        arrays += [clipped, grad * rsqrt]
        mean_squares += [features.mean_square(clipped), _quotient_square(grad, rsqrt)]
    return arrays, jnp.stack(mean_squares)


def relative_step(
    network: Any, theta: Any, grad: jax.Array, param: jax.Array, slots: Sequence[jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array, tuple[jax.Array, ...]]:
    """What VeLO and Celo have in common: a network on the 30 normalised features, and the size of the tensor.

    Gradients count as ±1000 at most.

    Returns:
      The network's two outputs (direction and log magnitude, in the tensor's shape), the root mean square of the
      parameter (1e-9 is added to its square), and the slots.
    """
    grad = jnp.clip(grad, -MAX_RELATIVE_GRADIENT, MAX_RELATIVE_GRADIENT)
    slots, grad_square = accumulate(grad, slots)
    arrays, mean_squares = inputs(grad, param, slots, grad_square, extended=True)
    none = jnp.zeros((0,), jnp.float32)
    direction, magnitude = network.apply(theta, arrays, jax.lax.rsqrt(1e-5 + mean_squares), none)
    return direction, magnitude, jnp.sqrt(mean_squares[1] + 1e-9), slots


def init_relative(network: Any, key: jax.Array) -> Any:
    """Initial theta of a network for `relative_step`."""
    arrays = [jnp.zeros((), jnp.float32)] * NUM_EXTENDED_FEATURES
    return network.init(key, arrays, jnp.ones((NUM_EXTENDED_FEATURES,), jnp.float32), jnp.zeros((0,), jnp.float32))


def _reduced(param, axes):
    return jnp.sum(zeros(param), axis=tuple(axes), keepdims=True)


def _mean(squares):
    return jnp.minimum(jnp.mean(squares), features.MAX_MEAN_SQUARE)


def _quotient_square(x, rsqrt):
    """The mean square of `x * rsqrt`."""
    return _mean(jnp.square(jnp.abs(x) * rsqrt))


def _product_square(x, first, second, axis):
    """The mean square of `x * first * second`, where `second` does not vary along `axis`."""
    return _mean(jnp.square(second) * jnp.mean((x * jnp.square(first)) * x, axis=axis, keepdims=True))
