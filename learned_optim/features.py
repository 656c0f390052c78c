"""Input features of learned optimizers, computed for one tensor at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float32

# Time scales, in steps, of `tanh_time` (Metz et al. 2022, arXiv 2203.11860).
TIME_SCALES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)

MAX_GRADIENT = 1e15  # larger entries of a gradient are clipped: the sum of their squares stays finite in float32
MAX_MEAN_SQUARE = 1e37
_SMALL_MOMENT = 1e-22  # a hundred times what is added to second moments before they divide
_SMALL = 1e-18  # the square of a smaller number, by which derivatives of a quotient divide, may be zero in float32


def momenta(
    grad: Float32[Array, "*shape"],
    previous: Sequence[Float32[Array, "*shape"]],
    decays: Sequence[float | Float32[Array, ""]] | Float32[Array, " decays"],
) -> tuple[Float32[Array, "*shape"], ...]:
    """Exponential moving averages of the gradient, one per decay: `m = m + (1 - decay) * (grad - m)`."""
    return tuple(m + (1.0 - decay) * (grad - m) for decay, m in zip(decays, previous, strict=True))


def normalize(x: Float32[Array, "*shape"]) -> Float32[Array, "*shape"]:
    """Divides a tensor by its root mean square: `x * rsqrt(1e-5 + mean(x ** 2))`.

    Example:
      >>> import jax.numpy as jnp
      >>> bool(jnp.allclose(normalize(jnp.array([3.0, -4.0])), jnp.array([3.0, -4.0]) / 12.5**0.5))
      True
    """
    return x * jax.lax.rsqrt(1e-5 + jnp.mean(jnp.square(x)))


def mean_square(x: Float32[Array, " ..."]) -> Float32[Array, ""]:
    """Mean of the squares of all elements. It is at most 1e37, so that it stays finite."""
    return jnp.minimum(jnp.mean(jnp.square(x)), MAX_MEAN_SQUARE)


def inverse_sqrt(x: Float32[Array, "*shape"]) -> Float32[Array, "*shape"]:
    """`1 / sqrt(x)` of a tensor, computed as `sqrt(1 / x)`: on CPUs XLA's rsqrt takes eight times as long.

    x must be at least 1e-19, because the derivative computes `x ** -2`, which must be finite.
    """
    return jnp.sqrt(1.0 / x)


def tiny_inverse_sqrt(x: Float32[Array, "*shape"]) -> Float32[Array, "*shape"]:
    """`1 / sqrt(x)` of a positive tensor of any scale. Where x is at most 1e-18, the derivative counts as zero.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> print(tiny_inverse_sqrt(jnp.array([4.0, 1e-30])), jax.grad(tiny_inverse_sqrt)(1e-30))
      [5.e-01 1.e+15] 0.0
    """
    ordinary = x > _SMALL
    return jnp.where(ordinary, inverse_sqrt(jnp.where(ordinary, x, 1.0)), jax.lax.stop_gradient(jax.lax.rsqrt(x)))


def ratio(x: Float32[Array, " ..."], y: Float32[Array, " ..."]) -> Float32[Array, " ..."]:
    """`x / y` for positive y. Where y is at most 1e-18, the derivative counts as zero, because it would be NaN.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> jax.grad(lambda y: y / (y + 1e-24))(0.0), jax.grad(lambda y: ratio(y, y + 1e-24))(0.0)
      (Array(nan, dtype=float32, weak_type=True), Array(0., dtype=float32, weak_type=True))
    """
    ordinary = y > _SMALL
    small = jax.lax.stop_gradient(x / jnp.where(ordinary, 1.0, y))
    return jnp.where(ordinary, x / jnp.where(ordinary, y, 1.0), small)


def constant_where_small(x: Float32[Array, " ..."], moment: Float32[Array, " ..."]) -> Float32[Array, " ..."]:
    """x itself, which counts as a constant where the second moment that it was divided by is below 1e-22.

    There a division by the root of the moment has a derivative of up to 1e12, which overflows on the way back through
    several steps. XLA knows that both cases are equal, so that values cost nothing.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> sign = lambda g: constant_where_small(g / jnp.sqrt(g**2 + 1e-24), g**2)
      >>> jax.grad(sign)(0.0), jax.grad(lambda g: g / jnp.sqrt(g**2 + 1e-24))(0.0)
      (Array(0., dtype=float32, weak_type=True), Array(1.e+12, dtype=float32, weak_type=True))
    """
    return jnp.where(moment < _SMALL_MOMENT, jax.lax.stop_gradient(x), x)


def second_moment(
    grad: Float32[Array, "*shape"], previous: Float32[Array, "*shape"], decay: float | Float32[Array, ""]
) -> Float32[Array, "*shape"]:
    """Exponential moving average of the squared gradient, clipped to ±1e15 so that v and its mean stay finite.

    `v = decay * v + (1 - decay) * clip(grad, -1e15, 1e15) ** 2`. NaN stays NaN.
    """
    # XLA would keep another array in memory if v itself were clipped, or if the square of `limited` were a
    # subexpression of its own. Hence the clipped gradient and this order of the products.
    limited = jnp.clip(grad, -MAX_GRADIENT, MAX_GRADIENT)
    return decay * previous + ((1.0 - decay) * limited) * limited


def factored_dims(shape: Sequence[int]) -> tuple[int, int] | None:
    """Returns the second largest and the largest dimension of a tensor, along which Adafactor factors second moments.

    Of two equal dimensions the later one counts as larger. Returns None for tensors with fewer than two dimensions.
    Source: Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235

    Example:
      >>> factored_dims((3, 3, 64, 32)), factored_dims((5,))
      ((3, 2), None)
    """
    if len(shape) < 2:
        return None
    second, largest = sorted(range(len(shape)), key=lambda axis: shape[axis])[-2:]
    return second, largest


def tanh_time(step: Float32[Array, ""]) -> Float32[Array, " 11"]:
    """Time features on 11 scales: `tanh(step / scale - 1)`."""
    return jnp.tanh(step / np.asarray(TIME_SCALES, np.float32) - 1.0)


def log_sign(
    grad: Float32[Array, "*shape"], p: float = 10.0
) -> tuple[Float32[Array, "*shape"], Float32[Array, "*shape"]]:
    """Splits a gradient into magnitude and sign (Andrychowicz et al. 2016, arXiv 1606.04474, appendix A).

    `(log|g| / p, sign g)` where `|g| >= exp(-p)`, and `(-1, exp(p) * g)` elsewhere, so that neither becomes large.

    Example:
      >>> import jax.numpy as jnp
      >>> [feature.round(2).tolist() for feature in log_sign(jnp.array([1.0, -1e-9]))]
      [[0.0, -1.0], [1.0, -0.0]]
    """
    large = jnp.abs(grad) >= float(np.exp(-p))
    magnitude = jnp.where(large, jnp.abs(grad), 1.0)  # keeps the unused branch and its derivative finite
    return (
        jnp.where(large, jnp.log(magnitude) / p, -1.0),
        jnp.where(large, jnp.sign(grad), float(np.exp(p)) * grad),
    )
