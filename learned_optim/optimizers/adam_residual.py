"""Adam with a learned residual: a mix of Adam-like directions, a small network on top, and a learned step size.

Our own architecture. Before meta-training it is Adam with steps in units of each tensor's size and a linear decay, so
that it needs little meta-training. Sources: relative step sizes and factored second moments from Adafactor (Shazeer and
Stern 2018, https://arxiv.org/abs/1804.04235), per-parameter networks on normalized momenta from Metz et al. 2022
(https://arxiv.org/abs/2203.11860), the nominal term with a learned residual from Harrison, Metz and Sohl-Dickstein 2022
(https://arxiv.org/abs/2209.11208).
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
    """The features c of a tensor, float32[] each."""

    position: jax.Array  # see `schedule.Progress`
    early: jax.Array  # exp(-t / 20)
    length: jax.Array  # see `schedule.Progress`
    is_vector: jax.Array  # 1 for vectors and scalars, 0 for tensors of two dimensions or more
    medium_size: jax.Array  # see `adam_features.Observed`
    slow_size: jax.Array  # see `adam_features.Observed`
    overlap: jax.Array  # see `adam_features.Observed`
    late: jax.Array  # see `schedule.Progress`
    known: jax.Array  # see `schedule.Progress`


def tensor_features(
    step: jax.Array, progress: schedule.Progress, observed: adam_features.Observed, param: jax.Array
) -> TensorFeatures:
    """Returns the features of a tensor."""
    return TensorFeatures(
        position=progress.position,
        early=schedule.early(step),
        length=progress.length,
        is_vector=jnp.asarray(param.ndim < 2, jnp.float32),
        medium_size=observed.medium_size,
        slow_size=observed.slow_size,
        overlap=observed.overlap,
        late=progress.late,
        known=progress.known,
    )


def adam_residual(hidden_size: int = 8) -> LearnedOptimizer:
    r"""Builds the Adam-with-residual optimizer.

    .. math::
      \Delta p = -s \, e^\ell \max(1 - \tau, 0.01) \, d, \qquad
      d = a^\top f + w^\top \mathrm{relu}(W f + V c + b), \qquad
      \ell = \ell_0 + k^\top c + \mathrm{MLP}(c)

    f are nine features of a coordinate, and c are nine features of its tensor. The scale s is the root mean square r(p)
    of a tensor with two dimensions or more, but at least 0.1 / √fan_in (the product of all dimensions but the last). It
    is 0.1 for vectors and scalars. The progress is τ = t / num_steps, at most 1. ℓ₀ is one number for matrices and one
    for vectors and scalars. d is clipped to ±8, and the terms that are added to ℓ₀ are clipped to ±5.

    Notation: m are momenta of decays .9 and .99, v is the second moment of decay .99. The factored v is the row mean
    of v times its column mean over its mean (v itself for vectors). Moments are bias-corrected, and 1e-10 of their mean
    is added to v, its rows and its columns.

    - f: g/r(g), p/r(p), both m/r(m), both u = m/√v, then, clipped to ±4, g/√v, m.9/√(factored v) and √(mean v)/√v.
    - c: 2τ - 1, e^(-t/20), ½ log(num_steps / 400), 1 for vectors and 0 for matrices, log(r(m.9)/√(mean v)) + 1,
      log(r(m.99)/√(mean v)) + 1.5, 1.8 (g · previous m.9) / (|g| |m.9|) clipped to ±2, τ⁴, and 1 if num_steps is known,
      else 0.

    No feature needs more than one pass over a tensor, and none is kept in memory.

    Args:
      hidden_size: width of the per-parameter network. 0 leaves it out: only mix and schedule are learned.

    Returns:
      A `LearnedOptimizer`. Before meta-training d = u.9 and ℓ = log .02. Without `num_steps`, learned constants replace
      2τ - 1, ½ log(num_steps / 400) and τ⁴, and max(1 - τ, .01) is 1; the level of ℓ then depends on the weight of the
      last c. State: three float32 copies of the parameters and a step counter. Updates do not depend on the scale of
      the gradients between 1e-8 and 1e14, and are finite at any scale.

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
        def update(grad, param, slots, step):
            progress, decay = schedule.progress(step, horizon, theta["unknown_horizon"]["progress"])
            inputs, scales, observed, moments = adam_features.coordinates(grad, param, slots, step)
            c = jnp.stack(tensor_features(step, progress, observed, param))
            log_step = schedule.log_step(theta["step"], c, param.ndim < 2)
            direction = adam_features.direction(theta["direction"], inputs, scales, c)
            step_size = jnp.exp(log_step) * decay * schedule.size(param)
            return -step_size * jnp.clip(direction, -8.0, 8.0), moments

        return per_tensor(adam_features.MOMENTS, update)

    spec = {"kind": "adam_residual", "feature_version": FEATURE_VERSION, "hidden_size": hidden_size}
    return define(spec, init, rule)
