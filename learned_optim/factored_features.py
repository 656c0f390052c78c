"""The per-parameter features that `factored_mlp` introduced and several later architectures share.

Metz, Harrison, Freeman, Merchant, Beyer, Bradbury, Agrawal, Poole, Mordatch, Roberts, Sohl-Dickstein 2022,
"Practical tradeoffs between memory, compute, and performance in learned optimizers" (adafac_mlp),
https://arxiv.org/abs/2203.11860

With m three momenta of the gradient g, v the moving average of g², r and c three moving averages of the mean of g² over
the rows and columns of the two largest dimensions, and F(x) = x / √(r / mean r) / √c, they are g, p, m, v, m/√v, 1/√v,
F(g), r, c, 1/√r, 1/√c, F(m), each divided by its root mean square over the tensor. Tensors with fewer than two
dimensions have moving averages of g² in place of r and c, and F(x) = x/√v.

No feature is ever in memory as a whole: `inputs` gives expressions that XLA fuses into the loop that uses them, and
`observe` gives their mean squares before that. What two sums over a tensor have in common, or such a sum and the loop
that makes the update, XLA would keep in memory: hence products that are computed twice, in another order or with
another sign each time, for a multiplication costs less.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_optim import features
from learned_optim import networks
from learned_optim.rule import TensorSlot
from learned_optim.rule import momentum
from learned_optim.rule import zeros

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
    return _reduced(param, () if dims is None else dims[1:])


def column(param: jax.Array) -> jax.Array:
    """A slot for c, the mean over the second largest dimension; one number, 0, where nothing is factored."""
    dims = features.factored_dims(param.shape)
    return _reduced(param, range(param.ndim) if dims is None else dims[:1])


class Slots(NamedTuple):
    """What the features need of the gradients before."""

    momenta: Sequence[Any]  # 3 moving averages of the gradient, one for each decay
    moment: Any  # v, the moving average of the squared gradient
    rows: Sequence[Any]  # 3 moving averages r; of size 1 along the largest dimension
    columns: Sequence[Any]  # 3 moving averages c; of size 1 along the second largest dimension


DECAYS = Decays()
SLOTS = Slots((momentum,) * 3, zeros, (TensorSlot(row),) * 3, (TensorSlot(column),) * 3)


def decay_offsets() -> dict[str, jax.Array]:
    """What stands for the decays in a theta that learns them: an offset of 0 for each."""
    return {name: jnp.zeros((len(decays),), jnp.float32) for name, decays in DECAYS._asdict().items()}


def moved_decays(offsets: Mapping[str, jax.Array]) -> Decays:
    """The decays at these offsets δ: `1 - exp(10 * (log(1 - β) / 10 + δ))`, clipped to [0, 1]."""
    log_mixings = {name: np.log1p(-np.asarray(decays)).astype(np.float32) for name, decays in DECAYS._asdict().items()}
    moved = {name: 1.0 - jnp.exp(log_mixings[name] + 10.0 * offsets[name]) for name in log_mixings}
    return Decays(**{name: jnp.clip(decays, 0.0, 1.0) for name, decays in moved.items()})


class Observed(NamedTuple):
    """What the features of a tensor are made of: float32 arrays of its rank that broadcast to its shape."""

    grad: jax.Array
    param: jax.Array
    momenta: Sequence[jax.Array]  # 3
    moment: jax.Array
    rsqrt: jax.Array  # 1/√v
    grad_factors: Sequence[tuple[jax.Array, ...]]  # 3; F(g) is g times the arrays of one of them
    momentum_factors: Sequence[tuple[jax.Array, ...]]  # 3; likewise F(m)
    small: Sequence[jax.Array]  # 12: r, c, 1/√r, 1/√c


def observe(
    grad: jax.Array,
    param: jax.Array,
    slots: Slots,
    decays: Decays = DECAYS,
    *,
    extended: bool = False,
    epsilon: float = 1e-6,
) -> tuple[Observed, jax.Array, Slots]:
    """Takes one more gradient in.

    Args:
      grad: the gradient.
      param: the parameter.
      slots: arrays as `SLOTS` makes them.
      decays: of the moving averages.
      extended: as in `inputs`.
      epsilon: added to v where its inverse square root is taken.

    Returns:
      What the features are made of, float32[28 or 30] with their mean squares, and the slots after this gradient.
    """
    momenta = features.momenta(grad, slots.momenta, decays.momentum)
    moment = features.second_moment(grad, slots.moment, decays.rms[0])
    factor = _factor_vector if features.factored_dims(grad.shape) is None else _factor_matrix
    rows, columns, factors, squares = factor(grad, momenta, slots.rows, slots.columns, decays.adafactor)
    rsqrt = features.inverse_sqrt(moment + epsilon)
    inner = columns or rows
    small = [*rows, *inner, *(features.inverse_sqrt(x + 1e-8) for x in (*rows, *inner))]
    mean_squares = [
        squares.grad,
        features.mean_square(param),
        *squares.momenta,
        features.mean_square(moment),
        *(_quotient_square(m, rsqrt) for m in momenta),
        features.mean_square(rsqrt),
        *squares.factored_grads,
        *(features.mean_square(x) for x in small),
        *squares.factored_momenta,
    ]
    if extended:
        mean_squares += [features.mean_square(_clipped(grad)), _quotient_square(grad, rsqrt)]
    observed = Observed(grad, param, momenta, moment, rsqrt, *factors, small)
    return observed, jnp.stack(mean_squares), Slots(momenta, moment, tuple(rows), tuple(columns or slots.columns))


def inputs(observed: Observed, *, extended: bool = False) -> list[jax.Array]:
    """The features before they are normalised: 28 float32 arrays that broadcast to the tensor's shape.

    Args:
      observed: what `observe` gave.
      extended: whether to add the two further features of VeLO, the gradient clipped to ±.1 and g/√v.
    """
    grad, momenta, rsqrt = observed.grad, observed.momenta, observed.rsqrt
    extra = [_clipped(grad), grad * rsqrt] if extended else []
    return [
        grad,
        observed.param,
        *momenta,
        observed.moment,
        *(m * rsqrt for m in momenta),
        rsqrt,
        *(grad * math.prod(factors) for factors in observed.grad_factors),
        *observed.small,
        *(m * math.prod(factors) for m, factors in zip(momenta, observed.momentum_factors, strict=True)),
        *extra,
    ]


class _Squares(NamedTuple):
    """Mean squares."""

    grad: jax.Array
    momenta: Sequence[jax.Array]  # 3
    factored_grads: Sequence[jax.Array]  # of F(g), 3
    factored_momenta: Sequence[jax.Array]  # of F(m), 3


def _factor_vector(grad, momenta, rows, columns, decays):
    """r, nothing for c, the factors of F(g) and F(m), and mean squares, of a tensor that has no rows and columns."""
    del columns
    rows = [features.second_moment(grad, r, decay) for r, decay in zip(rows, decays, strict=True)]
    grad_factors = [(features.inverse_sqrt(r + 1e-9),) for r in rows]
    momentum_factors = [(features.inverse_sqrt(r + 1e-6),) for r in rows]
    squares = _Squares(
        features.mean_square(grad),
        [features.mean_square(m) for m in momenta],
        [features.mean_square(grad * factor) for (factor,) in grad_factors],
        [features.mean_square(m * factor) for m, (factor,) in zip(momenta, momentum_factors, strict=True)],
    )
    return rows, None, (grad_factors, momentum_factors), squares


def _factor_matrix(grad, momenta, rows, columns, decays):
    """r, c, the factors of F(g) and F(m), and mean squares, of a tensor that has rows and columns."""
    second, largest = features.factored_dims(grad.shape)
    limit = lambda mean: jnp.minimum(mean, features.MAX_GRADIENT**2)
    column = -jnp.mean((-grad) * grad, axis=second, keepdims=True)
    columns = features.momenta(limit(column), columns, decays)
    down = [features.inverse_sqrt(jnp.maximum(c, 1e-9)) for c in columns]
    row, *grad_rows = _weighted_squares(grad, down, largest)
    rows = features.momenta(limit(row), rows, decays)
    relative = [r / (jnp.mean(r, axis=second, keepdims=True) + 1e-9) for r in rows]
    across = [features.inverse_sqrt(jnp.maximum(r, 1e-9)) for r in relative]
    whole = lambda row, across: _mean(row * jnp.square(across))
    momentum_rows = [_weighted_squares(m, [d], largest) for m, d in zip(momenta, down, strict=True)]
    squares = _Squares(
        _mean(row),
        [_mean(plain) for plain, _ in momentum_rows],
        [whole(*pair) for pair in zip(grad_rows, across, strict=True)],
        [whole(weighted, a) for (_, weighted), a in zip(momentum_rows, across, strict=True)],
    )
    factors = list(zip(across, down, strict=True))
    return rows, columns, (factors, factors), squares


def _weighted_squares(x, weights, axis):
    """Means of x² over an axis, then those of (x · weight)² for each weight, all of them in one pass over x."""
    stacked = jnp.stack([jnp.ones_like(weights[0]), *weights], axis)
    products = jnp.expand_dims(jnp.square(x), axis) * jnp.square(stacked)
    means = jnp.mean(products, axis=axis + 1, keepdims=True)
    return [jnp.squeeze(part, axis) for part in jnp.split(means, len(weights) + 1, axis)]


def _clipped(grad):
    return jnp.clip(grad, -0.1, 0.1)


def relative_step(
    network: Any,
    theta: Any,
    grad: jax.Array,
    param: jax.Array,
    slots: Slots,
    *,
    multiplier: float | jax.Array,
    magnitude_multiplier: float,
    widest: int,
) -> tuple[jax.Array, Slots]:
    """What VeLO and Celo have in common: steps of a network on the 30 features, in units of the tensor's size.

    `-multiplier * r(p) * d * exp(magnitude_multiplier * a)` with the network's outputs d and a and the root mean square
    r(p) of the parameter (1e-9 is added to its square). Gradients count as ±1000 at most.

    Args:
      network: two outputs, as `networks.per_parameter_mlp` makes it.
      theta: its weights.
      grad: the gradient.
      param: the parameter.
      slots: arrays as `SLOTS` makes them.
      multiplier: factor on the steps.
      magnitude_multiplier: scale of the log step size output.
      widest: width of the network's widest layer.

    Returns:
      The update and the new slots.
    """
    grad = jnp.clip(grad, -MAX_RELATIVE_GRADIENT, MAX_RELATIVE_GRADIENT)
    observed, mean_squares, slots = observe(grad, param, slots, extended=True)
    scales, none = jax.lax.rsqrt(1e-5 + mean_squares), jnp.zeros((0,), jnp.float32)
    scale = -multiplier * jnp.sqrt(mean_squares[1] + 1e-9)

    def step_of(observed):
        direction, magnitude = network.apply(theta, inputs(observed, extended=True), scales, none)
        return scale * direction * jnp.exp(magnitude_multiplier * magnitude)

    return networks.in_blocks(step_of, observed, widest), slots


def init_extended(network: Any, key: jax.Array) -> Any:
    """Initial theta of a network on the 30 features."""
    arrays = [jnp.zeros((), jnp.float32)] * NUM_EXTENDED_FEATURES
    return network.init(key, arrays, jnp.ones((NUM_EXTENDED_FEATURES,), jnp.float32), jnp.zeros((0,), jnp.float32))


def _reduced(param, axes):
    shape = [1 if axis in tuple(axes) else size for axis, size in enumerate(param.shape)]
    return jnp.zeros(shape, jnp.float32)


def _mean(squares):
    return jnp.minimum(jnp.mean(squares), features.MAX_MEAN_SQUARE)


def _quotient_square(x, rsqrt):
    """The mean square of `x * rsqrt`."""
    return _mean(jnp.square(jnp.abs(x) * rsqrt))
