"""Features of a coordinate that are Adam's or like them, and a direction that is a learned mix of them."""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_optim import features
from learned_optim import networks
from learned_optim.rule import momentum
from learned_optim.rule import zeros

MOMENTUM_DECAYS = (0.9, 0.99)
MOMENT_DECAY = 0.99
NUM_FEATURES = 9
NOMINAL = 4  # index of u_.9 among the features
_TINY = 1e-24  # added to mean squares of gradients
_FLOOR = 1e-10  # added to second moments, in units of their mean over the tensor


class Observed(NamedTuple):
    """What the moments tell of a tensor: float32[] each."""

    medium_size: jax.Array  # log(root mean square of m.9 over that of g) + 1
    slow_size: jax.Array  # log(root mean square of m.99 over that of g) + 1.5
    overlap: jax.Array  # twice the cosine between g and the m.9 before it


class Moments(NamedTuple):
    """What the features need of the gradients before."""

    medium: Any  # moving average of the gradient, decay .9
    slow: Any  # likewise, decay .99
    moment: Any  # v, the moving average of the squared gradient, decay .99


MOMENTS = Moments(momentum, momentum, zeros)


def init_direction(key: jax.Array, num_tensor_features: int, hidden_size: int) -> dict[str, jax.Array]:
    """Theta of `direction`: u_.9 alone, and a network of random weights whose output is zero."""
    theta = {"skip": jnp.zeros((NUM_FEATURES,), jnp.float32).at[NOMINAL].set(1.0)}
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
    grad: jax.Array, param: jax.Array, moments: Moments, step: jax.Array
) -> tuple[tuple[jax.Array, ...], jax.Array, Observed, Moments]:
    """The features of all coordinates, their normalising factors, what is observed of the tensor, and the new moments.

    Quotients by √v are of moments in units of the tensor's mean v, so that nothing depends on the gradient's scale.
    """
    medium, slow = features.momenta(grad, (moments.medium, moments.slow), MOMENTUM_DECAYS)
    moment = features.second_moment(grad, moments.moment, MOMENT_DECAY)
    unit, rsqrt, factored = _inverse_moments(moment)
    root = jnp.sqrt(1.0 - MOMENT_DECAY ** (step + 1.0))
    medium_factor, slow_factor = (root / (1.0 - decay ** (step + 1.0)) for decay in MOMENTUM_DECAYS)
    one = jnp.ones((), jnp.float32)
    squares = [features.mean_square(x) + _TINY for x in (grad, param, medium, slow)]
    grad_scale, param_scale, medium_scale, slow_scale = (jax.lax.rsqrt(square) for square in squares)
    inputs = {
        "grad": (grad, grad_scale),
        "param": (param, param_scale),
        "medium": (medium, medium_scale),
        "slow": (slow, slow_scale),
        "adam": (medium * (rsqrt * (unit * medium_factor)), one),  # below 2.4 by the Cauchy–Schwarz inequality
        "slow_adam": (slow * (rsqrt * (unit * slow_factor)), one),  # below 1
        "rmsprop": (jnp.clip(grad * (rsqrt * (unit * root)), -4.0, 4.0), one),
        "adafactor": (jnp.clip(medium * factored * (unit * medium_factor), -4.0, 4.0), one),
        "flatness": (jnp.minimum(rsqrt, 4.0), one),
    }
    overlap = (jnp.mean(grad * medium) - 0.1 * jnp.minimum(squares[0], features.MAX_MEAN_SQUARE)) * grad_scale
    overlap = jnp.where(jnp.isnan(overlap), 0.0, overlap)  # products of either sign that overflow
    observed = Observed(
        _log_ratio(squares[2], unit * medium_factor) + 1.0,
        _log_ratio(squares[3], unit * slow_factor) + 1.5,
        2.0 * jnp.clip(overlap * medium_scale, -1.0, 1.0),
    )
    arrays, scales = zip(*inputs.values(), strict=True)
    return arrays, jnp.stack(scales), observed, Moments(medium, slow, moment)


def _log_ratio(square, factor):
    """The log of a root mean square times a factor, between -7 and 1.4."""
    return 0.5 * jnp.log(jnp.minimum(square * factor * factor, 16.0) + 1e-6)


def inverse_moment(moment: jax.Array) -> tuple[jax.Array, jax.Array]:
    """1/√(mean of v), and 1/√v in units of it: so that nothing depends on the gradient's scale."""
    unit = jax.lax.rsqrt(jnp.mean(moment) + _TINY)
    return unit, features.inverse_sqrt(moment * jnp.square(unit) + _FLOOR)


def _inverse_moments(moment):
    """1/√(mean of v), then 1/√v and 1/√(factored v) in units of it."""
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
    theta: dict[str, jax.Array], inputs: tuple[jax.Array, ...], scales: jax.Array, c: jax.Array
) -> jax.Array:
    """The direction before it is clipped: the mix of features, and the network's output.

    With `mix` in theta, float32[tensor features, features], the mix depends on the tensor's features c.
    """
    none = jnp.zeros((1,), jnp.float32)
    skip = theta["skip"] + c @ theta["mix"] if "mix" in theta else theta["skip"]
    (mixed,) = networks.unrolled_linear((skip * scales)[:, None], none, inputs)
    if "w" not in theta:
        return mixed
    bias = theta["b"] + c @ theta["w_tensor"]
    hidden = networks.unrolled_linear(theta["w"] * scales[:, None], bias, inputs)
    (residual,) = networks.unrolled_linear(theta["w_out"][:, None], none, [networks.relu(x) for x in hidden])
    return mixed + residual
