"""Prodigy's estimate of the distance from the initial parameters to a solution, for all tensors of a model together.

Mishchenko and Defazio 2023, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner",
https://arxiv.org/abs/2306.06101

With the gradient g at the parameters x, the initial parameters x₀ and β = √.999:

    r ← β r + (1 - β) D² ⟨g, x₀ - x⟩,  z ← β z + (1 - β) D² g,  D ← max(D, D̂),  D̂ = r / ‖z‖₁

Deviation: gradients are weighted by D² alone, not by the learned step size too.
"""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_optim import features
from learned_optim import schedule
from learned_optim.rule import zeros

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float
    from jaxtyping import Float32

DECAY = math.sqrt(0.999)
FARTHEST = 1e10
_TINY = 1e-18  # a smaller sum of |z| is treated as zero, and the estimate is skipped


class Slots(NamedTuple):
    """State of the estimate for a tensor."""

    gradient_sum: Any  # z, the decayed sum of the weighted gradients
    first_param: Any  # x₀, the tensor before the first update


class Shared(NamedTuple):
    """State of the estimate that all tensors share."""

    distance: jax.Array  # float32[], D, which never decreases
    first: jax.Array  # float32[], the initial D; its square is the unit of z and r
    gain: jax.Array  # float32[], r, the decayed sum of the weighted ⟨g, x₀ - x⟩


def copy(param: Float[Array, "*shape"]) -> Float32[Array, "*shape"]:
    """A slot: a copy of the initial parameters, in a buffer of its own."""
    return jnp.array(param, jnp.float32, copy=True)


SLOTS = Slots(zeros, copy)


def first(params: Sequence[Float[Array, " ..."]], log_share: Float32[Array, ""]) -> Shared:
    """Returns the shared state before the first update.

    D is exp(log_share) times the mean of `schedule.size` over all coordinates of all tensors.
    """
    weights = [(float(param.size), schedule.size(param.astype(jnp.float32))) for param in params]
    mean_size = sum(n * s for n, s in weights) / max(1.0, sum(n for n, _ in weights))
    distance = jnp.minimum(jnp.exp(log_share) * mean_size, FARTHEST)
    return Shared(distance, distance, jnp.zeros((), jnp.float32))


def measure(
    grads: Sequence[Float32[Array, " ..."]],
    params: Sequence[Float32[Array, " ..."]],
    slots: Sequence[Slots],
    shared: Shared,
) -> tuple[list[Slots], Float32[Array, ""], Shared]:
    """Updates the estimate. z and r are in units of the squared initial D.

    Args:
      grads: the gradient of each tensor.
      params: the tensors.
      slots: the slots of each tensor.
      shared: `first(...)` at first, then the state that the previous call returned.

    Returns:
      The new slots of each tensor, the feature ½ log(D̂ / D) + 1 (at least -2), and the new shared state.
    """
    distance = shared.distance
    weight = (1.0 - DECAY) * jnp.square(distance / shared.first)
    limited = [jnp.clip(grad, -features.MAX_GRADIENT, features.MAX_GRADIENT) for grad in grads]
    sums = [DECAY * slot.gradient_sum + weight * grad for grad, slot in zip(limited, slots, strict=True)]
    moves = zip(limited, params, slots, strict=True)
    gained = sum(jnp.sum(grad * (slot.first_param - param)) for grad, param, slot in moves)
    gain = DECAY * shared.gain + weight * gained
    total = sum(jnp.sum(jnp.abs(z)) for z in sums)
    estimate = gain / jnp.where(total > _TINY, total, 1.0)
    estimate = jnp.where((total > _TINY) & jnp.isfinite(estimate), estimate, 0.0)
    distance = jnp.maximum(distance, jnp.minimum(estimate, FARTHEST))
    ratio = 0.5 * jnp.log(jnp.maximum(estimate / distance, math.exp(-6.0))) + 1.0
    new_slots = [slot._replace(gradient_sum=total) for slot, total in zip(slots, sums, strict=True)]
    return new_slots, ratio, shared._replace(distance=distance, gain=gain)


def relative_size(param: Float32[Array, " ..."], distance: Float32[Array, ""]) -> Float32[Array, ""]:
    """½ log(.02 size / D), clipped to ±3: compares steps in units of the tensor's size with steps in units of D."""
    return jnp.clip(0.5 * jnp.log(0.02 * schedule.size(param) / distance), -3.0, 3.0)
