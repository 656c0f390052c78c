"""Adam with a learned residual: a mix of Adam-like directions, a small network on top, and a learned step size.

Our own architecture. It starts as Adam with steps in units of each tensor's size and a linear decay, so that little
meta-training goes a long way. What it draws on: relative step sizes and factored second moments from Adafactor
(Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235), per-parameter networks on normalised momenta from Metz et
al. 2022 (https://arxiv.org/abs/2203.11860), the nominal term with a learned residual from Harrison, Metz and
Sohl-Dickstein 2022 (https://arxiv.org/abs/2209.11208).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_optim import adam_features
from learned_optim import checks
from learned_optim import schedule
from learned_optim.base import LearnedOptimizer
from learned_optim.base import define
from learned_optim.base import per_tensor

FEATURE_VERSION = 1


class TensorFeatures(NamedTuple):
    """The c of a tensor: float32[] each."""

    position: jax.Array  # of `schedule.Progress`
    early: jax.Array  # exp(-t / 20)
    length: jax.Array  # of `schedule.Progress`
    is_vector: jax.Array  # 1 for vectors and scalars, 0 for tensors of two dimensions or more
    medium_size: jax.Array  # of `adam_features.Observed`, like the next two
    slow_size: jax.Array
    overlap: jax.Array
    late: jax.Array  # of `schedule.Progress`, like the next
    known: jax.Array


def tensor_features(
    step: jax.Array, progress: schedule.Progress, observed: adam_features.Observed, param: jax.Array
) -> TensorFeatures:
    """The features of a tensor."""
    is_vector = jnp.asarray(param.ndim < 2, jnp.float32)
    run = progress.position, schedule.early(step), progress.length
    return TensorFeatures(*run, is_vector, *observed, progress.late, progress.known)


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
    hidden_size = checks.whole_number("hidden_size", hidden_size, 0, "0 leaves the per-parameter network out.")

    def init(key):
        direction_key, step_key = jax.random.split(key)
        return {
            "direction": adam_features.init_direction(direction_key, len(TensorFeatures._fields), hidden_size),
            "step": schedule.init_step(step_key, len(TensorFeatures._fields), math.log(0.02)),
            "unknown_horizon": {"progress": jnp.zeros((3,), jnp.float32)},
        }

    def rule(theta, horizon):
        def update(grad, param, moments, step):
            progress, decay = schedule.progress(step, horizon, theta["unknown_horizon"]["progress"])
            inputs, scales, observed, moments = adam_features.coordinates(grad, param, moments, step)
            c = jnp.stack(tensor_features(step, progress, observed, param))
            log_step = schedule.log_step(theta["step"], c, param.ndim < 2)
            direction = adam_features.direction(theta["direction"], inputs, scales, c)
            step_size = jnp.exp(log_step) * decay * schedule.size(param)
            return -step_size * jnp.clip(direction, -8.0, 8.0), moments

        return per_tensor(adam_features.MOMENTS, update)

    spec = {"kind": "adam_residual", "feature_version": FEATURE_VERSION, "hidden_size": hidden_size}
    return define(spec, init, rule)
