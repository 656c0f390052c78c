"""What the architectures with a learned residual on Adam share: features, the mix of directions, the learned step."""

import math

import jax
import jax.numpy as jnp

from learned_optim import features
from learned_optim import networks

MOMENTUM_DECAYS = (0.9, 0.99)
MOMENT_DECAY = 0.99
NUM_FEATURES = 9
NOMINAL = 4  # index of u_.9 among the features
STEP_HIDDEN_SIZE = 16
_TINY = 1e-24  # added to mean squares of gradients
_FLOOR = 1e-10  # added to second moments, in units of their mean over the tensor


def init_direction(key: jax.Array, num_tensor_features: int, hidden_size: int) -> dict[str, jax.Array]:
    """Theta of `direction`: u_.9 alone, and a network of random weights whose output is zero."""
    theta = {"skip": jnp.zeros((NUM_FEATURES,), jnp.float32).at[NOMINAL].set(1.0)}
    if hidden_size:
        w = _normal(key, NUM_FEATURES + num_tensor_features, hidden_size)
        theta |= {
            "w": w[:NUM_FEATURES],
            "w_tensor": w[NUM_FEATURES:],
            "b": jnp.zeros((hidden_size,), jnp.float32),
            "w_out": jnp.zeros((hidden_size,), jnp.float32),
        }
    return theta


def init_step(
    key: jax.Array, num_tensor_features: int, base: float, hidden_size: int = STEP_HIDDEN_SIZE
) -> dict[str, jax.Array]:
    """Theta of `log_step`: the constant `base`, and a network of random weights, if any, whose output is zero."""
    theta = {
        "base": jnp.full((2,), base, jnp.float32),  # matrices, vectors
        "skip": jnp.zeros((num_tensor_features,), jnp.float32),
    }
    if hidden_size:
        theta |= {
            "w": _normal(key, num_tensor_features, hidden_size),
            "b": jnp.zeros((hidden_size,), jnp.float32),
            "w_out": jnp.zeros((hidden_size,), jnp.float32),
        }
    return theta


def _normal(key, num_inputs, num_outputs):
    return jax.random.truncated_normal(key, -2.0, 2.0, (num_inputs, num_outputs), jnp.float32) / math.sqrt(num_inputs)


def progress(step: jax.Array, horizon: jax.Array, unknown: jax.Array) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """The four features of a tensor that depend on the horizon (0 if it is unknown), and the linear decay.

    The features: 2τ - 1, ½ log(num_steps / 400), τ⁴ for progress τ, and 1 if the horizon is known. Where it is not,
    float32[3] `unknown` stands in for the first three, the last is 0, and nothing decays.
    """
    known = horizon >= 1.0
    num_steps = jnp.maximum(horizon, 1.0)
    tau = jnp.minimum(step / num_steps, 1.0)
    made = jnp.stack([2.0 * tau - 1.0, 0.5 * jnp.log(num_steps / 400.0), tau**4])
    decay = jnp.where(known, jnp.maximum(1.0 - tau, 0.01), 1.0)
    return (*jnp.where(known, made, unknown), known.astype(jnp.float32)), decay


def coordinates(
    grad: jax.Array, param: jax.Array, slots: tuple[jax.Array, ...], step: jax.Array
) -> tuple[tuple[jax.Array, ...], jax.Array, list[jax.Array], tuple[jax.Array, ...]]:
    """The features of all coordinates with their normalising factors, what is observed of the tensor, and new slots.

    Slots are two momenta, of `MOMENTUM_DECAYS`, and a second moment, of `MOMENT_DECAY`.

    Quotients by √v are of moments in units of the tensor's mean v, so that nothing depends on the gradient's scale.
    """
    medium, slow = features.momenta(grad, slots[:2], MOMENTUM_DECAYS)
    moment = features.second_moment(grad, slots[2], MOMENT_DECAY)
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
    observed = [
        _log_ratio(squares[2], unit * medium_factor) + 1.0,
        _log_ratio(squares[3], unit * slow_factor) + 1.5,
        2.0 * jnp.clip(overlap * medium_scale, -1.0, 1.0),
    ]
    arrays, scales = zip(*inputs.values(), strict=True)
    return arrays, jnp.stack(scales), observed, (medium, slow, moment)


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


def log_step(theta: dict[str, jax.Array], c: jax.Array, is_vector: bool) -> jax.Array:
    """The logarithm of a tensor's step: a constant, and within ±5 what the tensor's features c add."""
    added = c @ theta["skip"]
    if "w" in theta:
        added = added + jax.nn.relu(c @ theta["w"] + theta["b"]) @ theta["w_out"]
    return theta["base"][int(is_vector)] + jnp.clip(added, -5.0, 5.0)


def size(param: jax.Array) -> jax.Array:
    """What a tensor's steps are measured by: its root mean square, at least .1 / √fan_in; .1 for vectors, scalars."""
    if param.ndim < 2:
        return jnp.asarray(0.1, jnp.float32)
    return jnp.sqrt(jnp.maximum(features.mean_square(param), 0.01 / math.prod(param.shape[:-1])))
