"""Adam-like features of a coordinate, and a direction that is a learned mix of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_optim import features
from learned_optim import networks
from learned_optim.rule import momentum
from learned_optim.rule import zeros

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float32

MOMENTUM_DECAYS = (0.9, 0.99)
MOMENT_DECAY = 0.99
_TINY = 1e-24  # added to mean squares of gradients
_FLOOR = 1e-10  # added to second moments, in units of their mean over the tensor


class Features(NamedTuple):
    """Features of the coordinates of a tensor. `Moments` has the notation; r is the root mean square of a tensor.

    The moments are bias-corrected, and those divided by √v are in units of the tensor's mean v.
    """

    grad: jax.Array  # g / r(g)
    param: jax.Array  # p / r(p)
    medium: jax.Array  # m.9 / r(m.9)
    slow: jax.Array  # m.99 / r(m.99)
    adam: jax.Array  # m.9 / √v
    slow_adam: jax.Array  # m.99 / √v
    rmsprop: jax.Array  # g / √v
    adafactor: jax.Array  # m.9 / √(factored v)
    flatness: jax.Array  # √(mean v) / √v


NUM_FEATURES = len(Features._fields)


class Observed(NamedTuple):
    """Features of a tensor, float32[] each."""

    medium_size: jax.Array  # log(root mean square of m.9 over that of g) + 1
    slow_size: jax.Array  # log(root mean square of m.99 over that of g) + 1.5
    overlap: jax.Array  # twice the cosine between g and the m.9 before it


class Moments(NamedTuple):
    """State of a coordinate."""

    medium: Any  # moving average of the gradient, decay .9
    slow: Any  # moving average of the gradient, decay .99
    moment: Any  # v, the moving average of the squared gradient, decay .99


MOMENTS = Moments(momentum, momentum, zeros)


def init_direction(key: jax.Array, num_tensor_features: int, hidden_size: int) -> dict[str, jax.Array]:
    """Initial theta of `direction`: the feature `adam` alone, and a random network whose output is zero."""
    nominal = Features._fields.index("adam")
    theta = {"skip": jnp.zeros((NUM_FEATURES,), jnp.float32).at[nominal].set(1.0)}
    if hidden_size:
        w = networks.truncated_normal(key, NUM_FEATURES + num_tensor_features, hidden_size)
        theta |= {
            "w": w[:NUM_FEATURES],
            "w_tensor": w[NUM_FEATURES:],
            "b": jnp.zeros((hidden_size,), jnp.float32),
            "w_out": jnp.zeros((hidden_size,), jnp.float32),
        }
    return theta


def coordinates(
    grad: Float32[Array, "*shape"], param: Float32[Array, "*shape"], moments: Moments, step: Float32[Array, ""]
) -> tuple[Features, Features, Observed, Moments]:
    """Updates the moments by one gradient and computes the features.

    Moments are divided by √(mean v) before they are divided by √v, so that no feature depends on the gradient's scale.

    Args:
      grad: the gradient.
      param: the parameter.
      moments: the moments before this gradient.
      step: number of updates made so far.

    Returns:
      The features of all coordinates before they are normalized, their normalizing factors, float32[] each, the
      features of the tensor, and the new moments.
    """
    medium, slow = features.momenta(grad, (moments.medium, moments.slow), MOMENTUM_DECAYS)
    moment = features.second_moment(grad, moments.moment, MOMENT_DECAY)
    unit, rsqrt, factored = _inverse_moments(moment)
    root = jnp.sqrt(1.0 - MOMENT_DECAY ** (step + 1.0))
    medium_factor, slow_factor = (root / (1.0 - decay ** (step + 1.0)) for decay in MOMENTUM_DECAYS)
    one = jnp.ones((), jnp.float32)
    grad_square, param_square, medium_square, slow_square = (
        features.mean_square(x) + _TINY for x in (grad, param, medium, slow)
    )
    grad_scale, param_scale, medium_scale, slow_scale = (
        jax.lax.rsqrt(square) for square in (grad_square, param_square, medium_square, slow_square)
    )
    arrays = Features(
        grad=grad,
        param=param,
        medium=medium,
        slow=slow,
        adam=medium * (rsqrt * (unit * medium_factor)),  # below 2.4 by the Cauchy–Schwarz inequality
        slow_adam=slow * (rsqrt * (unit * slow_factor)),  # below 1, likewise
        rmsprop=jnp.clip(grad * (rsqrt * (unit * root)), -4.0, 4.0),
        adafactor=jnp.clip(medium * factored * (unit * medium_factor), -4.0, 4.0),
        flatness=jnp.minimum(rsqrt, 4.0),
    )
    scales = Features(grad_scale, param_scale, medium_scale, slow_scale, one, one, one, one, one)
    # .9 times the mean of g · (previous m.9), from means that need no further array: m.9 is .9 (previous m.9) + .1 g.
    overlap = (jnp.mean(grad * medium) - 0.1 * jnp.minimum(grad_square, features.MAX_MEAN_SQUARE)) * grad_scale
    overlap = jnp.where(jnp.isnan(overlap), 0.0, overlap)  # inf - inf, if products of both signs overflow
    observed = Observed(
        medium_size=_log_ratio(medium_square, unit * medium_factor) + 1.0,
        slow_size=_log_ratio(slow_square, unit * slow_factor) + 1.5,
        overlap=2.0 * jnp.clip(overlap * medium_scale, -1.0, 1.0),
    )
    return arrays, scales, observed, Moments(medium, slow, moment)


def _log_ratio(square, factor):
    """The log of a root mean square times a factor, limited to the range from -7 to 1.4."""
    return 0.5 * jnp.log(jnp.minimum(square * factor * factor, 16.0) + 1e-6)


def inverse_moment(moment: Float32[Array, "*shape"]) -> tuple[Float32[Array, ""], Float32[Array, "*shape"]]:
    """Returns 1/√(mean of v), and 1/√v in units of it. The second does not depend on the gradient's scale."""
    unit = jax.lax.rsqrt(jnp.mean(moment) + _TINY)
    return unit, features.inverse_sqrt(moment * jnp.square(unit) + _FLOOR)


def _inverse_moments(moment):
    """Returns 1/√(mean of v), then 1/√v and 1/√(factored v) in units of it."""
    dims = features.factored_dims(moment.shape)
    if dims is None:
        unit, rsqrt = inverse_moment(moment)
        return unit, rsqrt, rsqrt
    second, largest = dims
    row = jnp.mean(moment, axis=largest, keepdims=True)
    column = jnp.mean(moment, axis=second, keepdims=True)
    mean = jnp.mean(row, axis=second, keepdims=True)
    unit = jax.lax.rsqrt(jnp.mean(mean) + _TINY)
    rsqrt = features.inverse_sqrt(moment * jnp.square(unit) + _FLOOR)
    across = features.inverse_sqrt(row * jnp.square(unit) + _FLOOR)
    down = features.inverse_sqrt(column * jnp.square(jax.lax.rsqrt(mean + _TINY)) + _FLOOR)
    return unit, rsqrt, across * down


def direction(
    theta: Mapping[str, jax.Array], inputs: Features, scales: Features, c: Float32[Array, " tensor_features"]
) -> Float32[Array, "*shape"]:
    """Returns the direction before it is clipped: a mix of the features plus the network's output.

    If theta has an entry "mix", float32[tensor features, features], the mix depends on the tensor's features c.
    """
    factors = jnp.stack(scales)
    none = jnp.zeros((1,), jnp.float32)
    skip = theta["skip"] + c @ theta["mix"] if "mix" in theta else theta["skip"]
    (mixed,) = networks.unrolled_linear((skip * factors)[:, None], none, inputs)
    if "w" not in theta:
        return mixed
    bias = theta["b"] + c @ theta["w_tensor"]
    hidden = networks.unrolled_linear(theta["w"] * factors[:, None], bias, inputs)
    (residual,) = networks.unrolled_linear(theta["w_out"][:, None], none, [networks.relu(x) for x in hidden])
    return mixed + residual
