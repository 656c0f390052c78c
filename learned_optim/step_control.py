"""Controllers of the tensors' step sizes: they lengthen steps that could be longer, and shorten those that should be.

The error signal is Prodigy's estimate of the distance from the initial parameters to a solution (Mishchenko and Defazio
2023, https://arxiv.org/abs/2306.06101), made for each tensor by itself, in units of the tensor's step size D. With the
gradient g at the parameters x, the initial parameters x₀ and β = √.999:

    r ← β r + (1 - β) D² ⟨g, x₀ - x⟩,  z ← β z + (1 - β) D² g,  c = tanh(a r / (‖z‖₁ D) + b)
    log D ← log D + k c / (t + t₀)

Prodigy sets D to the largest r / ‖z‖₁ so far. This estimate is far too small for models with many parameters or noisy
gradients, as ‖z‖₁ counts the noise of every coordinate. Its sign is right nevertheless: r is positive while a step back
to x₀ would raise the loss, and negative once the steps have carried the parameters too far. So D starts at a share of
the tensor's size, moves by a power of the time at most, and can fall.

The sums are over samples of the coordinates, see `learned_optim.samples`.
"""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import TYPE_CHECKING
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_optim import features
from learned_optim import samples

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float32

DECAY = math.sqrt(0.999)
MAX_GROWTH = 12.0  # of |log(D / initial D)|
_LARGEST = 1e37  # of |r|
_TINY = 1e-30  # a smaller sum of |z| is treated as zero: D stays
# Values before meta-training.
_FIRST = 0.14  # the initial D, in units of the tensor's size
_RISE, _FALL = 2.0, 0.3  # k for positive and for negative c
_GAIN = 1.0  # a
_BIAS = -0.1  # b
_ONSET = 6.0  # t₀


class Control(NamedTuple):
    """State of the controllers of all tensors."""

    gradient_sum: jax.Array  # float32[tensors, sample], z, the decayed sum of the weighted gradients
    first_param: jax.Array  # float32[tensors, sample], x₀
    first_size: jax.Array  # float32[tensors], log size of the tensor before the first update
    gain: jax.Array  # float32[tensors], r, the decayed sum of the weighted ⟨g, x₀ - x⟩
    growth: jax.Array  # float32[tensors], log(D / initial D)


def init() -> dict[str, jax.Array]:
    """Initial theta."""
    log = lambda x: jnp.asarray(math.log(x), jnp.float32)
    return {
        "first": jnp.stack([log(_FIRST)] * 2),  # for matrices, for vectors
        "rates": jnp.stack([log(_RISE), log(_FALL)]),
        "gain": log(_GAIN),
        "bias": jnp.asarray(_BIAS, jnp.float32),
        "onset": log(_ONSET),
    }


def log_sizes(params: Sequence[jax.Array], rows: Float32[Array, "tensors sample"]) -> Float32[Array, " tensors"]:
    """Log of `schedule.size` of each tensor, the unit of its initial D, from the samples of the tensors."""
    floors = np.array([0.01 / math.prod(param.shape[:-1]) if param.ndim > 1 else 0.01 for param in params], np.float32)
    ceilings = np.array([np.inf if param.ndim > 1 else 0.01 for param in params], np.float32)
    return 0.5 * jnp.log(jnp.clip(samples.mean_squares(rows, samples.sizes(params)), floors, ceilings))


def log_usual(params: Sequence[jax.Array], log_first: Float32[Array, " tensors"]) -> Float32[Array, " tensors"]:
    """Log of the usual size of each tensor. A matrix that begins smaller than 1 / √fan_in may grow to that."""
    usual = [0.5 * math.log(1.0 / math.prod(param.shape[:-1])) if param.ndim > 1 else -np.inf for param in params]
    return jnp.maximum(log_first, np.array(usual, np.float32))


def first(params: Float32[Array, "tensors sample"], log_size: Float32[Array, " tensors"]) -> Control:
    """Returns the state before the first update.

    Args:
      params: samples of the parameters.
      log_size: log of the size of each tensor, the unit of its initial D.
    """
    zero = jnp.zeros_like(log_size)
    return Control(jnp.zeros_like(params), params, log_size, zero, zero)


class Controlled(NamedTuple):
    """What `advance` returns."""

    log_step: jax.Array  # float32[tensors], log D
    signal: jax.Array  # float32[tensors], c, from -1 to 1
    control: Control


def advance(
    theta: dict[str, jax.Array],
    grads: Float32[Array, "tensors sample"],
    params: Float32[Array, "tensors sample"],
    is_vector: Float32[Array, " tensors"],
    control: Control,
    step: Float32[Array, ""],
) -> Controlled:
    """Updates the step sizes of all tensors.

    Args:
      theta: as `init` makes it.
      grads: samples of the gradients.
      params: samples of the parameters.
      is_vector: 1 for vectors and scalars, 0 for others.
      control: the state.
      step: number of updates made so far.
    """
    limited = jnp.clip(grads, -features.MAX_GRADIENT, features.MAX_GRADIENT)
    start = control.first_size + theta["first"][0] + is_vector * (theta["first"][1] - theta["first"][0])
    weight = (1.0 - DECAY) * jnp.exp(2.0 * control.growth)  # in units of the square of the initial D
    total = DECAY * control.gradient_sum + weight[:, None] * limited
    gained = jnp.sum(limited * (control.first_param - params), axis=1)
    gain = jnp.clip(DECAY * control.gain + weight * gained, -_LARGEST, _LARGEST)
    norm = jnp.sum(jnp.abs(total), axis=1)
    estimate = features.ratio(gain, jnp.where(norm > _TINY, norm, 1.0) * jnp.exp(start + control.growth))
    signal = jnp.tanh(jnp.exp(theta["gain"]) * estimate + theta["bias"])
    signal = jnp.where((norm > _TINY) & jnp.isfinite(estimate), signal, 0.0)
    rate = jnp.exp(jnp.where(signal > 0.0, theta["rates"][0], theta["rates"][1]))
    growth = control.growth + rate * signal / (step + jnp.exp(theta["onset"]))
    growth = jnp.clip(growth, -MAX_GROWTH, MAX_GROWTH)
    control = control._replace(gradient_sum=total, gain=gain, growth=growth)
    return Controlled(start + growth, signal, control)
