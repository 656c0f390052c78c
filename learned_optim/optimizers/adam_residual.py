"""Adam with a learned residual: a mix of Adam-like directions, a small network on top, and a learned step size.

Our own architecture. It starts as Adam with steps in units of each tensor's size and a linear decay, so that little
meta-training goes a long way. What it draws on: relative step sizes and factored second moments from Adafactor
(Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235), per-parameter networks on normalised momenta from Metz et
al. 2022 (https://arxiv.org/abs/2203.11860), the nominal term with a learned residual from Harrison, Metz and
Sohl-Dickstein 2022 (https://arxiv.org/abs/2209.11208).
"""

import math
import operator

import jax
import jax.numpy as jnp

from learned_optim import features
from learned_optim import networks
from learned_optim.base import LearnedOptimizer
from learned_optim.base import define
from learned_optim.base import momentum
from learned_optim.base import per_tensor
from learned_optim.base import zeros

FEATURE_VERSION = 1
MOMENTUM_DECAYS = (0.9, 0.99)
MOMENT_DECAY = 0.99
NUM_FEATURES = 9
NUM_TENSOR_FEATURES = 9
STEP_HIDDEN_SIZE = 16
_NOMINAL = 4  # index of u_.9 among the features
_TINY = 1e-24  # added to mean squares of gradients
_FLOOR = 1e-10  # added to second moments, in units of their mean over the tensor


def adam_residual(hidden_size: int = 8) -> LearnedOptimizer:
    r"""Builds the Adam-with-residual optimizer.

    .. math::
      \Delta p = -s \, e^\ell \max(1 - \tau, 0.01) \, d, \qquad
      d = a^\top f + w^\top \mathrm{relu}(W f + V c + b), \qquad
      \ell = \ell_0 + k^\top c + \mathrm{MLP}(c)

    f are 9 features of a coordinate and c 9 features of its tensor. The scale s is the root mean square r(p) of a
    tensor with two dimensions or more, but at least 0.1 / √fan_in (all dimensions but the last), and 0.1 for others; τ
    = t / num_steps, at most 1. d is clipped to ±8, and what is added to ℓ₀ to ±5. ℓ₀ is one number for matrices and
    one for vectors and scalars.

    f: g/r(g), p/r(p), m/r(m) and u = m/√v for momenta m of decays .9 and .99, g/√v, m.9/√(factored v), and √(mean
    v)/√v. v is the second moment of decay .99, factored v its row mean times its column mean over its mean (v itself
    for vectors); moments are bias-corrected, the last three are clipped to ±4, and 1e-10 of their mean is added to v,
    its rows and its columns. c: 2τ - 1, e^(-t/20), ½ log(num_steps / 400), 1 for vectors and 0 for matrices,
    log(r(m.9)/√(mean v)) + 1, log(r(m.99)/√(mean v)) + 1.5, 1.8 (g · previous m.9) / (|g| |m.9|) clipped to ±2, τ⁴,
    and 1 if num_steps is known, else 0. No feature needs more than one pass over a tensor, and none is kept in memory.

    Args:
      hidden_size: width of the per-parameter network. 0 leaves it out: a learned mix and schedule.

    Returns:
      A `LearnedOptimizer`. Before meta-training d = u.9 and ℓ = log .02. Without `num_steps` a learned constant each
      stands in for 2τ - 1, ½ log(num_steps / 400) and τ⁴, and max(1 - τ, .01) is 1: the weight of the flag in ℓ then
      sets the level of the steps. State: three float32 copies of the parameters and a step counter. Gradients may have
      any scale: from 1e-8 to 1e14 it changes nothing, beyond updates stay finite.

    Raises:
      ValueError: if hidden_size is negative.
      TypeError: if hidden_size is not a whole number.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> optimizer = adam_residual()
      >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)), num_steps=100)
      >>> params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
      >>> grads = jax.tree.map(jnp.ones_like, params)
      >>> updates, state = tx.update(grads, tx.init(params), params)
      >>> print(f"{updates['w'][0, 0]:.4f} {updates['b'][0]:.4f}")
      -0.0200 -0.0020
    """
    hidden_size = operator.index(hidden_size)
    if hidden_size < 0:
        raise ValueError(f"hidden_size must be at least 0 (no per-parameter network), got {hidden_size}.")

    def init(key):
        direction_key, step_key = jax.random.split(key)
        direction = {"skip": jnp.zeros((NUM_FEATURES,), jnp.float32).at[_NOMINAL].set(1.0)}
        if hidden_size:
            w = _normal(direction_key, NUM_FEATURES + NUM_TENSOR_FEATURES, hidden_size)
            direction |= {
                "w": w[:NUM_FEATURES],
                "w_tensor": w[NUM_FEATURES:],
                "b": jnp.zeros((hidden_size,), jnp.float32),
                "w_out": jnp.zeros((hidden_size,), jnp.float32),
            }
        step = {
            "base": jnp.full((2,), math.log(0.02), jnp.float32),  # matrices, vectors
            "skip": jnp.zeros((NUM_TENSOR_FEATURES,), jnp.float32),
            "w": _normal(step_key, NUM_TENSOR_FEATURES, STEP_HIDDEN_SIZE),
            "b": jnp.zeros((STEP_HIDDEN_SIZE,), jnp.float32),
            "w_out": jnp.zeros((STEP_HIDDEN_SIZE,), jnp.float32),
        }
        return {"direction": direction, "step": step, "unknown_horizon": {"progress": jnp.zeros((3,), jnp.float32)}}

    def rule(theta, horizon):
        def update(grad, param, slots, step):
            progress, decay = _progress(step, horizon, theta["unknown_horizon"]["progress"])
            inputs, scales, observed, slots = _features(grad, param, slots, step)
            is_vector = jnp.asarray(param.ndim < 2, jnp.float32)
            slow, length, late, known = progress
            c = jnp.stack([slow, jnp.exp(-step / 20.0), length, is_vector, *observed, late, known])
            step_size = jnp.exp(_log_step(theta["step"], c, param.ndim < 2)) * decay * _size(param)
            direction = _direction(theta["direction"], inputs, scales, c)
            return -step_size * jnp.clip(direction, -8.0, 8.0), slots

        return per_tensor([momentum, momentum, zeros], update)

    spec = {"kind": "adam_residual", "feature_version": FEATURE_VERSION, "hidden_size": hidden_size}
    return define(spec, init, rule)


def _normal(key, num_inputs, num_outputs):
    return jax.random.truncated_normal(key, -2.0, 2.0, (num_inputs, num_outputs), jnp.float32) / math.sqrt(num_inputs)


def _progress(step, horizon, unknown):
    """The four features of a tensor that depend on the horizon (0 if it is unknown), and the linear decay."""
    known = horizon >= 1.0
    num_steps = jnp.maximum(horizon, 1.0)
    tau = jnp.minimum(step / num_steps, 1.0)
    progress = jnp.stack([2.0 * tau - 1.0, 0.5 * jnp.log(num_steps / 400.0), tau**4])
    decay = jnp.where(known, jnp.maximum(1.0 - tau, 0.01), 1.0)
    return (*jnp.where(known, progress, unknown), known.astype(jnp.float32)), decay


def _features(grad, param, slots, step):
    """The features of all coordinates with their normalising factors, what is observed of the tensor, and new slots.

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


def _inverse_moments(moment):
    """1/√(mean of v), then 1/√v and 1/√(factored v) in units of it."""
    dims = features.factored_dims(moment.shape)
    if dims is None:
        unit = jax.lax.rsqrt(jnp.mean(moment) + _TINY)
        rsqrt = features.inverse_sqrt(moment * jnp.square(unit) + _FLOOR)
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


def _direction(theta, inputs, scales, c):
    """d before it is clipped: the mix of features, and the network's output."""
    none = jnp.zeros((1,), jnp.float32)
    (direction,) = networks.unrolled_linear((theta["skip"] * scales)[:, None], none, inputs)
    if "w" not in theta:
        return direction
    bias = theta["b"] + c @ theta["w_tensor"]
    hidden = networks.unrolled_linear(theta["w"] * scales[:, None], bias, inputs)
    (residual,) = networks.unrolled_linear(theta["w_out"][:, None], none, [networks.relu(x) for x in hidden])
    return direction + residual


def _log_step(theta, c, is_vector):
    hidden = jax.nn.relu(c @ theta["w"] + theta["b"])
    return theta["base"][int(is_vector)] + jnp.clip(c @ theta["skip"] + hidden @ theta["w_out"], -5.0, 5.0)


def _size(param):
    """The scale s of a tensor's steps."""
    if param.ndim < 2:
        return 0.1
    return jnp.sqrt(jnp.maximum(features.mean_square(param), 0.01 / math.prod(param.shape[:-1])))
