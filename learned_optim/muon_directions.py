"""Directions of an update: Adam's with Nesterov momentum, also orthogonalized as Muon does with momentum.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_optim import adam_features
from learned_optim import features
from learned_optim.orthogonal import orthogonalize
from learned_optim.rule import momentum
from learned_optim.rule import number
from learned_optim.rule import zeros

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float32

MOMENTUM_DECAY = 0.9
MOMENT_DECAY = 0.99
NUM_ITERATIONS = 3  # Newton–Schulz iterations
_TINY = 1e-24  # added to mean squares


class Averages(NamedTuple):
    """State of the directions."""

    momentum: Any  # m, moving average of the gradient, decay .9
    moment: Any  # v, moving average of the squared gradient, decay .99
    agreement: Any  # float32[] for the tensor: moving average of mean(g m) / mean(v), decay .99


SLOTS = Averages(momentum, zeros, number)


class Directions(NamedTuple):
    """Candidates for the direction of a tensor, in the order of their weights in theta."""

    orthogonal: jax.Array  # o
    nesterov: jax.Array  # u
    plain: jax.Array  # s


class Made(NamedTuple):
    """What `make` returns."""

    directions: Directions
    size: jax.Array  # float32[], log(root mean square of u + .001) + 1
    certain: jax.Array  # float32[], ½ log(agreement) + 1.5, low if gradients are mostly noise
    averages: Averages


def make(
    grad: Float32[Array, "*shape"],
    averages: Averages,
    lookahead: Float32[Array, ""],
    step: Float32[Array, ""],
    *,
    max_block: int,
) -> Made:
    """Makes the directions of a tensor.

    m is the average of gradients with decay .9, v̂ is the bias-corrected average of g² with decay .99, and λ is the
    weight of the gradient in Nesterov momentum.

    - s is g / √v̂, clipped to ±4.
    - u is ((1 - λ) m + λ g) / √v̂, bias-corrected and clipped to ±4.
    - o is u for vectors and scalars. Other tensors are treated as matrices whose columns are the last dimension: o is
      the orthogonalized u, scaled to the root mean square of u.

    Args:
      grad: the gradient.
      averages: the averages before this gradient.
      lookahead: λ.
      step: number of updates made so far.
      max_block: most rows of a matrix that are orthogonalized together, see `orthogonal.orthogonalize`.
    """
    v = features.second_moment(grad, averages.moment, MOMENT_DECAY)
    unit, rsqrt = adam_features.inverse_moment(v)
    root = jnp.sqrt(1.0 - MOMENT_DECAY ** (step + 1.0))
    normalize = rsqrt * (unit * root)
    zero_weight = MOMENTUM_DECAY**step  # weight of the initial value, zero, in the momentum before this gradient
    limited = jnp.clip(grad, -features.MAX_GRADIENT, features.MAX_GRADIENT)
    # The previous momentum is divided by 1 - zero_weight, its bias correction. At step 0, where both are 0, any
    # positive denominator will do.
    product = jnp.mean((limited * unit) * (averages.momentum * unit))
    product = product / jnp.maximum(1.0 - zero_weight, 1.0 - MOMENTUM_DECAY)
    agreement = averages.agreement + (1.0 - MOMENT_DECAY) * (product - averages.agreement)
    (m,) = features.momenta(grad, (averages.momentum,), (MOMENTUM_DECAY,))
    ahead = m + lookahead * (grad - m)
    correction = 1.0 / (1.0 - (1.0 - lookahead) * (MOMENTUM_DECAY * zero_weight))
    nesterov = jnp.clip(ahead * (normalize * correction), -4.0, 4.0)
    plain = jnp.clip(grad * normalize, -4.0, 4.0)
    size = jnp.sqrt(features.mean_square(nesterov) + _TINY)
    orthogonal = nesterov
    if grad.ndim > 1:
        orthogonal = orthogonalize(nesterov, NUM_ITERATIONS, max_block)
        orthogonal = orthogonal * (size * jax.lax.rsqrt(features.mean_square(orthogonal) + 1e-12))
    certain = 0.5 * jnp.log(jnp.clip(agreement / jnp.square(root), 1e-3, 4.0)) + 1.5
    directions = Directions(orthogonal, nesterov, plain)
    return Made(directions, jnp.log(size + 1e-3) + 1.0, certain, Averages(m, v, agreement))


def squareness(param: Float32[Array, " ..."]) -> float:
    """½ log(shorter / longer side) of a tensor as a matrix; 0 for vectors and scalars.

    Example:
      >>> import jax.numpy as jnp
      >>> squareness(jnp.zeros((3, 3, 9))), squareness(jnp.zeros(5))
      (0.0, 0.0)
    """
    if param.ndim < 2:
        return 0.0
    shorter, longer = sorted((param.shape[-1], param.size // param.shape[-1]))
    return 0.5 * math.log(shorter / longer)
