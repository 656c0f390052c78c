"""Prodigy with a learned residual: steps in units of an estimated distance, with a learned schedule and direction.

Our own architecture. Before meta-training it is Prodigy (Mishchenko and Defazio 2023, https://arxiv.org/abs/2306.06101)
with a linear decay, which estimates the step size for each problem. Meta-training learns the schedule, its dependence
on the number of steps and on the tensor, and the direction. Except for the distance it equals `adam_residual`.
"""

import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_optim import adam_features
from learned_optim import checks
from learned_optim import distance
from learned_optim import schedule
from learned_optim.base import LearnedOptimizer
from learned_optim.base import Rule
from learned_optim.base import define
from learned_optim.optimizers.adam_residual import TensorFeatures as AdamTensorFeatures
from learned_optim.optimizers.adam_residual import tensor_features

FEATURE_VERSION = 1
_FIRST_DISTANCE = 0.005  # before meta-training, in units of the parameters' mean size


class Slots(NamedTuple):
    """State of a tensor."""

    moments: Any  # `adam_features.Moments`
    distance: Any  # `distance.Slots`


class TensorFeatures(NamedTuple):
    """The features c of a tensor, float32[] each."""

    adam: AdamTensorFeatures  # 9
    relative: jax.Array  # ½ log(.02 s / D)
    ratio: jax.Array  # ½ log(D̂ / D) + 1


NUM_TENSOR_FEATURES = len(AdamTensorFeatures._fields) + 2


def prodigy_residual(hidden_size: int = 8, step_hidden_size: int = 16, mix: bool = True) -> LearnedOptimizer:
    r"""Builds the Prodigy-with-residual optimizer.

    .. math::
      \Delta p = -D \, e^\ell \max(1 - \tau, 0.01) \, d, \qquad
      d = (a + M c)^\top f + w^\top \mathrm{relu}(W f + V c + b), \qquad
      \ell = \ell_0 + k^\top c + \mathrm{MLP}(c)

    D estimates the distance from the initial parameters x₀ to a solution, for all tensors together, from gradients g:

    .. math::
      r \leftarrow \beta r + (1 - \beta) D^2 \langle g, x_0 - x \rangle, \qquad
      z \leftarrow \beta z + (1 - \beta) D^2 g, \qquad
      D \leftarrow \max(D, \hat D), \quad \hat D = r / \lVert z \rVert_1

    with β = √.999. The initial D is a learned constant times the mean over all coordinates of the size s of their
    tensor. The size is the root mean square, but at least 0.1 / √fan_in; it is 0.1 for vectors and scalars. f and the
    first nine c are those of `adam_residual`. The others are ½ log(.02 s / D), which compares steps in units of the
    tensor's size with steps in units of D, clipped to ±3, and ½ log(D̂ / D) + 1, at least -2. d is clipped to ±8, and
    the terms that are added to ℓ₀ are clipped to ±5.

    Args:
      hidden_size: width of the per-parameter network. 0 leaves it out: only mix and schedule are learned.
      step_hidden_size: width of the MLP of the step. 0 leaves it out: ℓ is linear in c.
      mix: whether the mix depends on the tensor. False leaves M out.

    Returns:
      A `LearnedOptimizer`. Before meta-training d = u.9, ℓ = 0, and the initial D is .005 of the mean size. Without
      `num_steps`, learned constants replace 2τ - 1, ½ log(num_steps / 400) and τ⁴, and max(1 - τ, .01) is 1. State:
      five float32 copies of the parameters (two momenta, the second moment, z, x₀), three numbers and a step counter.
      Updates do not depend on the scale of the gradients between 1e-8 and 1e14, and are finite at any scale.

    Raises:
      ValueError: if a size is negative.
      TypeError: if a size is not a whole number, or mix is not a bool.

    Deviations from Prodigy: second moments have decay .99 and are bias-corrected. Gradients in r and z are weighted by
    D² alone, not by the learned step size too. The initial D is in units of the parameters.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> optimizer = prodigy_residual()
      >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)), num_steps=100)
      >>> params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
      >>> grads = jax.tree.map(jnp.ones_like, params)
      >>> updates, state = tx.update(grads, tx.init(params), params)
      >>> print(f"{updates['w'][0, 0]:.5f} {updates['b'][0]:.5f}")  # .005 of the mean size, .775
      -0.00387 -0.00387
    """
    hidden_size = checks.whole_number("hidden_size", hidden_size, 0, "0 leaves the per-parameter network out.")
    step_hidden_size = checks.whole_number("step_hidden_size", step_hidden_size, 0, "0 leaves the network out.")
    mix = checks.flag("mix", mix)

    def init(key):
        direction_key, step_key = jax.random.split(key)
        direction = adam_features.init_direction(direction_key, NUM_TENSOR_FEATURES, hidden_size)
        if mix:
            direction["mix"] = jnp.zeros((NUM_TENSOR_FEATURES, adam_features.NUM_FEATURES), jnp.float32)
        return {
            "direction": direction,
            "distance": {"log_first": jnp.asarray(math.log(_FIRST_DISTANCE), jnp.float32)},
            "step": schedule.init_step(step_key, NUM_TENSOR_FEATURES, 0.0, step_hidden_size),
            "unknown_horizon": {"progress": jnp.zeros((3,), jnp.float32)},
        }

    def rule(theta, horizon):
        def update_all(grads, params, slots, shared, step, loss):
            del loss
            if not grads:
                return [], [], shared
            progress, decay = schedule.progress(step, horizon, theta["unknown_horizon"]["progress"])
            measured, ratio, shared = distance.measure(grads, params, [slot.distance for slot in slots], shared)
            updates, new_slots = [], []
            for grad, param, slot, of_distance in zip(grads, params, slots, measured, strict=True):
                inputs, scales, observed, moments = adam_features.coordinates(grad, param, slot.moments, step)
                c = TensorFeatures(
                    adam=tensor_features(step, progress, observed, param),
                    relative=distance.relative_size(param, shared.distance),
                    ratio=ratio,
                )
                c = jnp.stack(jax.tree.leaves(c))
                log_step = schedule.log_step(theta["step"], c, param.ndim < 2)
                direction = adam_features.direction(theta["direction"], inputs, scales, c)
                step_size = jnp.exp(log_step) * decay * shared.distance
                updates.append(-step_size * jnp.clip(direction, -8.0, 8.0))
                new_slots.append(Slots(moments, of_distance))
            return updates, new_slots, shared

        first_distance = lambda params: distance.first(params, theta["distance"]["log_first"])
        return Rule(Slots(adam_features.MOMENTS, distance.SLOTS), update_all, first_distance)

    spec = {
        "kind": "prodigy_residual",
        "feature_version": FEATURE_VERSION,
        "hidden_size": hidden_size,
        "step_hidden_size": step_hidden_size,
        "mix": mix,
    }
    return define(spec, init, rule)
