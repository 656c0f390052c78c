"""A controller of a tensor's step size: it lengthens steps while they could be longer, and shortens them if not.

The error signal is Prodigy's estimate of the distance from the initial parameters to a solution (Mishchenko and Defazio
2023, https://arxiv.org/abs/2306.06101), made for each tensor by itself, in units of the tensor's step size D. With the
gradient g at the parameters x, the initial parameters x₀ and β = √.999:

    r ← β r + (1 - β) D² ⟨g, x₀ - x⟩,  z ← β z + (1 - β) D² g,  c = tanh(a r / (‖z‖₁ D) + b)
    log D ← log D + k c / (t + t₀)

Prodigy sets D to the largest r / ‖z‖₁ so far. This estimate is far too small for models with many parameters or noisy
gradients, as ‖z‖₁ counts the noise of every coordinate. Its sign is right nevertheless: r is positive while a step back
to x₀ would raise the loss, and negative once the steps have carried the parameters too far. So D starts at a share of
the tensor's size, moves by a power of the time at most, and can fall.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_optim import features
from learned_optim import schedule
from learned_optim.rule import TensorSlot
from learned_optim.rule import number

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float32

DECAY = math.sqrt(0.999)
MAX_SAMPLE = 4096  # coordinates of a tensor that z and x₀ are kept of
MAX_GROWTH = 12.0  # of |log(D / initial D)|
_TINY = 1e-30  # a smaller sum of |z| is treated as zero: D stays
_SMALL = 1e-18  # the square of a smaller number, by which derivatives divide, may be zero in float32
# Values before meta-training.
_FIRST = 0.1  # the initial D, in units of the tensor's size
_RISE, _FALL = 1.5, 0.3  # k for positive and for negative c
_GAIN = 1.0  # a
_BIAS = 0.3  # b
_ONSET = 10.0  # t₀


class Slots(NamedTuple):
    """State of a tensor's controller."""

    gradient_sum: Any  # float32[sample], z, the decayed sum of the weighted gradients
    first_param: Any  # float32[sample], x₀
    first_size: Any  # float32[], log size of the tensor before the first update, see `schedule.size`
    gain: Any  # float32[], r, the decayed sum of the weighted ⟨g, x₀ - x⟩
    growth: Any  # float32[], log(D / initial D)


def sample(x: Float32[Array, " ..."]) -> Float32[Array, " sample"]:
    """A part of a tensor's coordinates, on a regular grid; all of them if they are at most `MAX_SAMPLE`.

    Example:
      >>> import jax.numpy as jnp
      >>> sample(jnp.ones((30, 3))).shape, sample(jnp.ones((300, 300))).shape
      ((90,), (3400,))
    """
    strides = [1] * x.ndim
    sampled = lambda: [-(-side // stride) for side, stride in zip(x.shape, strides, strict=True)]
    while math.prod(sampled()) > MAX_SAMPLE:
        longest = max(range(x.ndim), key=lambda axis: sampled()[axis])
        strides[longest] *= 3  # an odd number, so that the grid meets every part of a side made of equal parts
    return x[tuple(slice(None, None, stride) for stride in strides)].ravel()


SLOTS = Slots(
    gradient_sum=TensorSlot(lambda param: jnp.zeros_like(sample(param), jnp.float32)),
    first_param=TensorSlot(lambda param: sample(param.astype(jnp.float32))),
    first_size=TensorSlot(lambda param: jnp.log(schedule.size(param.astype(jnp.float32)))),
    gain=number,
    growth=number,
)


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


class Controlled(NamedTuple):
    """What `advance` returns."""

    log_size: jax.Array  # float32[], log D
    signal: jax.Array  # float32[], c, from -1 to 1
    slots: Slots


def advance(
    theta: dict[str, jax.Array],
    grad: Float32[Array, "*shape"],
    param: Float32[Array, "*shape"],
    slots: Slots,
    step: Float32[Array, ""],
) -> Controlled:
    """Updates the step size of a tensor.

    Args:
      theta: as `init` makes it.
      grad: the gradient.
      param: the tensor.
      slots: its slots.
      step: number of updates made so far.
    """
    limited = jnp.clip(sample(grad), -features.MAX_GRADIENT, features.MAX_GRADIENT)
    first = theta["first"][int(param.ndim < 2)] + slots.first_size
    weight = (1.0 - DECAY) * jnp.exp(2.0 * slots.growth)  # in units of the square of the initial D
    total = DECAY * slots.gradient_sum + weight * limited
    gain = DECAY * slots.gain + weight * jnp.sum(limited * (slots.first_param - sample(param)))
    norm = jnp.sum(jnp.abs(total))
    estimate = _ratio(gain, jnp.where(norm > _TINY, norm, 1.0) * jnp.exp(first + slots.growth))
    signal = jnp.tanh(jnp.exp(theta["gain"]) * estimate + theta["bias"])
    signal = jnp.where((norm > _TINY) & jnp.isfinite(estimate), signal, 0.0)
    rate = jnp.exp(jnp.where(signal > 0.0, theta["rates"][0], theta["rates"][1]))
    growth = slots.growth + rate * signal / (step + jnp.exp(theta["onset"]))
    growth = jnp.clip(growth, -MAX_GROWTH, MAX_GROWTH)
    return Controlled(first + growth, signal, slots._replace(gradient_sum=total, gain=gain, growth=growth))


def _ratio(gain, total):
    """gain / total. Where the total is very small, the derivative counts as zero: it would be NaN."""
    ordinary = total > _SMALL
    small = jax.lax.stop_gradient(gain / jnp.where(ordinary, 1.0, total))
    return jnp.where(ordinary, gain / jnp.where(ordinary, total, 1.0), small)
