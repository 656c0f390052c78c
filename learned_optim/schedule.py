"""The size of updates: progress through the run, decay of the step size, and a learned log step size per tensor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_optim import features
from learned_optim import networks

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float32

HIDDEN_SIZE = 16
ONSET = 100.0  # updates after which the decay of `anytime` sets in


class Progress(NamedTuple):
    """Features of the progress through a run, float32[] each."""

    position: jax.Array  # 2τ - 1 with the progress τ from 0 to 1
    length: jax.Array  # ½ log(num_steps / 400)
    late: jax.Array  # τ⁴
    known: jax.Array  # 1 if the horizon is known, 0 if not


def progress(
    step: Float32[Array, ""], horizon: Float32[Array, ""], unknown: Float32[Array, " 3"]
) -> tuple[Progress, Float32[Array, ""]]:
    """Returns the features of the progress τ = step / horizon and the linear decay max(1 - τ, .01).

    Args:
      step: number of updates made so far.
      horizon: planned number of updates, 0 if it is not known.
      unknown: replaces the first three features if the horizon is not known. The decay is then 1.
    """
    known = horizon >= 1.0
    num_steps = jnp.maximum(horizon, 1.0)
    tau = jnp.minimum(step / num_steps, 1.0)
    made = jnp.stack([2.0 * tau - 1.0, 0.5 * jnp.log(num_steps / 400.0), tau**4])
    decay = jnp.where(known, jnp.maximum(1.0 - tau, 0.01), 1.0)
    position, length, late = jnp.where(known, made, unknown)
    return Progress(position, length, late, known.astype(jnp.float32)), decay


def anytime(step: Float32[Array, ""], exponent: Float32[Array, ""]) -> Float32[Array, ""]:
    """Decay for runs of unknown length: (1 + t / 100) to the power of -exponent."""
    return jnp.exp(-exponent * jnp.log1p(step / ONSET))


def early(step: Float32[Array, ""]) -> Float32[Array, ""]:
    """exp(-t / 20): 1 at the first update, close to 0 after 100."""
    return jnp.exp(-step / 20.0)


def init_step(
    key: jax.Array, num_tensor_features: int, base: float, hidden_size: int = HIDDEN_SIZE
) -> dict[str, jax.Array]:
    """Initial theta of `log_step`: the constant `base`, and a random network with zero output if hidden_size > 0."""
    theta = {
        "base": jnp.full((2,), base, jnp.float32),  # for matrices, for vectors
        "skip": jnp.zeros((num_tensor_features,), jnp.float32),
    }
    if hidden_size:
        theta |= {
            "w": networks.truncated_normal(key, num_tensor_features, hidden_size),
            "b": jnp.zeros((hidden_size,), jnp.float32),
            "w_out": jnp.zeros((hidden_size,), jnp.float32),
        }
    return theta


def log_step(theta: dict[str, jax.Array], c: Float32[Array, " tensor_features"], is_vector: bool) -> Float32[Array, ""]:
    """Log step size of a tensor: a constant, plus a function of the tensor's features c clipped to ±5."""
    added = c @ theta["skip"]
    if "w" in theta:
        added = added + jax.nn.relu(c @ theta["w"] + theta["b"]) @ theta["w_out"]
    return theta["base"][int(is_vector)] + jnp.clip(added, -5.0, 5.0)


def size(param: Float32[Array, " ..."]) -> Float32[Array, ""]:
    """Unit of a tensor's updates: its root mean square, but at least .1 / √fan_in; .1 for vectors and scalars."""
    if param.ndim < 2:
        return jnp.asarray(0.1, jnp.float32)
    return jnp.sqrt(jnp.maximum(features.mean_square(param), 0.01 / math.prod(param.shape[:-1])))
