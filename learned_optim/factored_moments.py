"""Moving averages of gradients, of their squares, and of rows and columns of these: state of several architectures.

Adafactor's second moments: Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235. With three decays, and bounds for
finite values: Metz et al. 2022, https://arxiv.org/abs/2203.11860.

`learned_optim.factored_features` makes features of them; its docstring has the notation.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_optim import features
from learned_optim.rule import TensorSlot
from learned_optim.rule import momentum
from learned_optim.rule import zeros


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
    """A slot for c, the mean over the second largest dimension. Tensors that are not factored have one unused 0."""
    dims = features.factored_dims(param.shape)
    return _reduced(param, range(param.ndim) if dims is None else dims[:1])


class Slots(NamedTuple):
    """State of a tensor."""

    momenta: Sequence[Any]  # 3 moving averages of the gradient, one for each decay
    moment: Any  # v, the moving average of the squared gradient
    rows: Sequence[Any]  # 3 moving averages r; of size 1 along the largest dimension
    columns: Sequence[Any]  # 3 moving averages c; of size 1 along the second largest dimension


_TINY = 1e-30

DECAYS = Decays()
SLOTS = Slots((momentum,) * 3, zeros, (TensorSlot(row),) * 3, (TensorSlot(column),) * 3)


def decay_offsets() -> dict[str, jax.Array]:
    """Initial theta for learned decays: an offset of 0 for each decay."""
    return {name: jnp.zeros((len(decays),), jnp.float32) for name, decays in DECAYS._asdict().items()}


def moved_decays(offsets: Mapping[str, jax.Array]) -> Decays:
    """The decays at these offsets δ: `1 - exp(10 * (log(1 - β) / 10 + δ))`, clipped to [0, 1]."""
    log_mixings = {name: np.log1p(-np.asarray(decays)).astype(np.float32) for name, decays in DECAYS._asdict().items()}
    moved = {name: 1.0 - jnp.exp(log_mixings[name] + 10.0 * offsets[name]) for name in log_mixings}
    return Decays(**{name: jnp.clip(decays, 0.0, 1.0) for name, decays in moved.items()})


class Squares(NamedTuple):
    """Mean squares, float32[]."""

    grad: jax.Array
    momenta: Sequence[jax.Array]  # 3
    factored_grads: Sequence[jax.Array]  # of F(g), 3
    factored_momenta: Sequence[jax.Array]  # of F(m), 3


class Factored(NamedTuple):
    """Row and column averages of a tensor after one gradient. Fields with three entries have one for each decay."""

    rows: Sequence[jax.Array]  # r
    columns: Sequence[jax.Array]  # c; r for a tensor without rows and columns
    grad_factors: Sequence[tuple[jax.Array, ...]]  # F(g) is g times all arrays of a tuple
    momentum_factors: Sequence[tuple[jax.Array, ...]]  # F(m) likewise


def factor(
    grad: jax.Array,
    momenta: Sequence[jax.Array],
    slots: Slots,
    decays: Sequence[float | jax.Array] | jax.Array,
    *,
    vector_epsilon: float = 1e-6,
) -> tuple[Factored, Squares, Slots]:
    """Updates r and c by one gradient.

    Args:
      grad: the gradient.
      momenta: the momenta after this gradient.
      slots: arrays as `SLOTS` makes them.
      decays: of r and c.
      vector_epsilon: for a tensor with fewer than two dimensions, F(m) is m / √(r + vector_epsilon). If it is 0, 1e-30
        is added to squared gradients before r averages them, so that r is positive.

    Returns:
      The averages with the factors that follow from them, mean squares, and the slots with new rows and columns.
    """
    dims = features.factored_dims(grad.shape)
    if dims is None:
        factored, squares = _factor_vector(grad, momenta, slots, decays, vector_epsilon)
        return factored, squares, slots._replace(rows=tuple(factored.rows))
    factored, squares = _factor_matrix(grad, momenta, slots, decays, dims)
    return factored, squares, slots._replace(rows=tuple(factored.rows), columns=tuple(factored.columns))


def bounded_mean(squares: jax.Array) -> jax.Array:
    """Mean of squares, at most 1e37 so that it stays finite."""
    return jnp.minimum(jnp.mean(squares), features.MAX_MEAN_SQUARE)


def _factor_vector(grad, momenta, slots, decays, epsilon):
    """For a tensor with fewer than two dimensions."""
    rows = [features.second_moment(grad, r, decay) for r, decay in zip(slots.rows, decays, strict=True)]
    if epsilon:
        momentum_factors = [(features.inverse_sqrt(r + epsilon),) for r in rows]
    else:
        rows = [r + (1.0 - decay) * _TINY for r, decay in zip(rows, decays, strict=True)]
        momentum_factors = [(features.tiny_inverse_sqrt(r),) for r in rows]
    grad_factors = [(features.inverse_sqrt(r + 1e-9),) for r in rows]
    squares = Squares(
        features.mean_square(grad),
        [features.mean_square(m) for m in momenta],
        [features.mean_square(grad * factor) for (factor,) in grad_factors],
        [features.mean_square(m * factor) for m, (factor,) in zip(momenta, momentum_factors, strict=True)],
    )
    return Factored(rows, rows, grad_factors, momentum_factors), squares


def _factor_matrix(grad, momenta, slots, decays, dims):
    """For a tensor with two dimensions or more. `dims` are the second largest and the largest of them."""
    second, largest = dims
    limit = lambda mean: jnp.minimum(mean, features.MAX_GRADIENT**2)
    # The mean of g², with two signs that cancel: `_weighted_squares` needs g² as well, and XLA would store an
    # expression that both had in common (see `learned_optim.factored_features`).
    column = -jnp.mean((-grad) * grad, axis=second, keepdims=True)
    columns = features.momenta(limit(column), slots.columns, decays)
    down = [features.inverse_sqrt(jnp.maximum(c, 1e-9)) for c in columns]
    row, *grad_rows = _weighted_squares(grad, down, largest)
    rows = features.momenta(limit(row), slots.rows, decays)
    relative = [r / (jnp.mean(r, axis=second, keepdims=True) + 1e-9) for r in rows]
    across = [features.inverse_sqrt(jnp.maximum(r, 1e-9)) for r in relative]
    # The mean over the tensor of (x · down · across)², from the means over its rows of (x · down)².
    whole = lambda row, across: bounded_mean(row * jnp.square(across))
    momentum_rows = [_weighted_squares(m, [d], largest) for m, d in zip(momenta, down, strict=True)]
    squares = Squares(
        bounded_mean(row),
        [bounded_mean(plain) for plain, _ in momentum_rows],
        [whole(*pair) for pair in zip(grad_rows, across, strict=True)],
        [whole(weighted, a) for (_, weighted), a in zip(momentum_rows, across, strict=True)],
    )
    factors = list(zip(across, down, strict=True))
    return Factored(rows, columns, factors, factors), squares


def _weighted_squares(x, weights, axis):
    """Means over an axis of x², then of (x · weight)² for each weight, in one pass over x."""
    stacked = jnp.stack([jnp.ones_like(weights[0]), *weights], axis)
    products = jnp.expand_dims(jnp.square(x), axis) * jnp.square(stacked)
    means = jnp.mean(products, axis=axis + 1, keepdims=True)
    return [jnp.squeeze(part, axis) for part in jnp.split(means, len(weights) + 1, axis)]


def _reduced(param, axes):
    shape = [1 if axis in tuple(axes) else size for axis, size in enumerate(param.shape)]
    return jnp.zeros(shape, jnp.float32)
