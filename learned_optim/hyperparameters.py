"""Hyperparameters of ordinary optimizers as unconstrained numbers, for architectures that learn only these.

Theta holds the logarithm of a learning rate or of an epsilon, and log(1 - β) for a decay β. An outer update by δ
therefore changes a rate, an epsilon or an averaging time 1 / (1 - β) by the factor e^±δ, whatever its size.
"""

from collections.abc import Mapping
import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_optim import checks
from learned_optim import features
from learned_optim.rule import momentum
from learned_optim.rule import zeros


class AdamSlots(NamedTuple):
    """State of a coordinate."""

    first: Any  # m, the moving average of the gradient
    second: Any  # v, the moving average of the squared gradient


ADAM_SLOTS = AdamSlots(momentum, zeros)

_LOG_MIN_MIXING = math.log(1e-7)  # float32 cannot distinguish a larger decay β from 1
_MAX_MIXING = 1.0 - 1e-6  # keeps log β finite
_MIN_MOMENT = 1e-36  # keeps the derivative of √v finite, and the quotient m / √v if epsilon is 0


def positive(name: str, value: float) -> float:
    """Returns the constructor argument `name` as a float, or raises ValueError if it is not positive and finite."""
    value = checks.real_number(name, value)
    if value <= 0.0:
        raise ValueError(f"{name} must be a positive finite number, because its logarithm is learned, got {value!r}.")
    return value


def decay(name: str, value: float) -> float:
    """Returns a decay as a float, or raises ValueError if it is not in [0, 1)."""
    value = checks.real_number(name, value)
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{name} must be at least 0 and below 1, because log(1 - {name}) is learned, got {value!r}.")
    return value


def logs(values: Mapping[str, float]) -> dict[str, jax.Array]:
    """Returns the logarithms of positive numbers as float32 scalars, with `log_` before each name."""
    return {f"log_{name}": jnp.asarray(math.log(value), jnp.float32) for name, value in values.items()}


def mixing(log_one_minus_decay: jax.Array) -> jax.Array:
    """Returns 1 - β from log(1 - β), which is clipped to [log 1e-7, 0]."""
    return jnp.exp(jnp.clip(log_one_minus_decay, _LOG_MIN_MIXING, 0.0))


def adam_logs(b1: float, b2: float, epsilon: float) -> dict[str, jax.Array]:
    """Returns the part of theta that `adam_direction` needs."""
    return logs({"one_minus_b1": 1.0 - b1, "one_minus_b2": 1.0 - b2, "epsilon": epsilon})


def adam_direction(
    theta: Mapping[str, jax.Array],
    grad: jax.Array,
    slots: AdamSlots,
    step: jax.Array,
    *,
    epsilon_root: float = 0.0,
) -> tuple[jax.Array, AdamSlots]:
    """Returns Adam's direction of ascent m̂ / (√(v̂ + epsilon_root) + ε) and the updated moments m and v.

    Source: Kingma and Ba 2015, https://arxiv.org/abs/1412.6980. Gradients are clipped to ±1e15, so that v stays finite,
    and v̂ is at least 1e-36.
    """
    first_mixing, second_mixing = mixing(theta["log_one_minus_b1"]), mixing(theta["log_one_minus_b2"])
    limited = jnp.clip(grad, -features.MAX_GRADIENT, features.MAX_GRADIENT)
    first = slots.first + first_mixing * (limited - slots.first)
    second = slots.second + second_mixing * (jnp.square(limited) - slots.second)
    corrected = jnp.maximum(second / _weight(second_mixing, step), _MIN_MOMENT)
    corrected = corrected + epsilon_root if epsilon_root else corrected
    denominator = jnp.sqrt(corrected) + jnp.exp(theta["log_epsilon"])
    return first / _weight(first_mixing, step) / denominator, AdamSlots(first, second)


def _weight(mixing, step):
    """Returns 1 - β ** (step + 1), the sum of the weights of a moving average, without cancellation for β near 1."""
    return -jnp.expm1((step + 1.0) * jnp.log1p(-jnp.minimum(mixing, _MAX_MIXING)))
