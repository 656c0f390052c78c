"""Muon's directions with steps in units of Prodigy's distance and a learned schedule: no learning rate, 24 weights.

Our own architecture. Prodigy's estimate of the distance to a solution sets the step size (Mishchenko and Defazio 2023,
https://arxiv.org/abs/2306.06101). The direction of a matrix is that of Adam with Nesterov momentum, orthogonalized as
Muon does with momentum (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon). Meta-training learns the
schedule, its dependence on the number of steps and on the tensor, and the mix of directions.
"""

import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_optim import adam_features
from learned_optim import distance
from learned_optim import features
from learned_optim import schedule
from learned_optim.base import LearnedOptimizer
from learned_optim.base import Rule
from learned_optim.base import define
from learned_optim.base import momentum
from learned_optim.base import number
from learned_optim.base import zeros
from learned_optim.orthogonal import orthogonalize

FEATURE_VERSION = 1
MOMENTUM_DECAY = 0.9
MOMENT_DECAY = 0.99
MAX_BLOCK = 64  # rows of a matrix that are orthogonalized together
NUM_ITERATIONS = 3  # Newton–Schulz iterations
# Values before meta-training.
_BASE = 0.4  # ℓ₀, the log step size in units of D
_EXPONENT = -0.4  # the step size is proportional to num_steps to this power
_FIRST_DISTANCE = 0.005  # in units of the parameters' mean size
_UNKNOWN_EXPONENT = 0.5  # of the decay if the number of steps is not known
_LOOKAHEAD = 0.1  # λ, the weight of the gradient in Nesterov momentum
_TINY = 1e-24  # added to mean squares


class Averages(NamedTuple):
    """State of the directions."""

    momentum: Any  # m, moving average of the gradient, decay .9
    moment: Any  # v, moving average of the squared gradient, decay .99
    agreement: Any  # float32[] for the tensor: moving average of mean(g m) / mean(v), decay .99


class TensorFeatures(NamedTuple):
    """The features c of a tensor, float32[] each."""

    position: jax.Array  # 2τ - 1
    early: jax.Array  # exp(-t / 20)
    length: jax.Array  # ½ log(num_steps / 400)
    decay: jax.Array  # ½ log γ
    known: jax.Array  # 1 if num_steps is known, 0 if not
    size: jax.Array  # log(root mean square of u + .001) + 1
    certain: jax.Array  # ½ log(agreement) + 1.5, low if gradients are mostly noise
    relative: jax.Array  # ½ log(.02 size / D)
    ratio: jax.Array  # ½ log(D̂ / D) + 1
    is_vector: jax.Array  # 1 for vectors and scalars, 0 for others
    squareness: jax.Array  # ½ log(shorter / longer side)


class Directions(NamedTuple):
    """Candidates for the direction of a tensor, in the order of their weights in theta."""

    orthogonal: jax.Array  # o
    nesterov: jax.Array  # u
    plain: jax.Array  # s


class Slots(NamedTuple):
    """State of a tensor."""

    averages: Any  # `Averages`
    distance: Any  # `distance.Slots`


def prodigy_muon() -> LearnedOptimizer:
    r"""Builds the Prodigy-and-Muon optimizer.

    .. math::
      \Delta p = -D \, e^\ell \, \gamma \, d, \qquad d = (a + (2\tau - 1) \, a')^\top (o, u, s), \qquad
      \ell = \ell_0 + k^\top c

    The decay γ is max(1 - τ, .01) with the progress τ = t / num_steps. If num_steps is not known, it is (1 + t / 100)
    to the power of minus a learned exponent. D is the estimate of `learned_optim.distance`. The initial D is a learned
    constant times the mean over all coordinates of the size of their tensor. The size is the root mean square, but at
    least 0.1 / √fan_in; it is 0.1 for vectors and scalars.

    There are three directions. m is the average of gradients with decay .9, v̂ is the bias-corrected average of g² with
    decay .99, and λ is learned.

    - s is g / √v̂, clipped to ±4.
    - u is ((1 - λ) m + λ g) / √v̂, bias-corrected and clipped to ±4.
    - o is u for vectors and scalars. Other tensors are treated as matrices whose columns are the last dimension: o is
      the orthogonalized u, in blocks of up to 64 rows of the shorter side (`learned_optim.orthogonal`), scaled to the
      root mean square of u.

    The features c are those of `TensorFeatures`. The agreement in the feature `certain` is clipped to [.001, 4],
    `relative` to ±3, and `ratio` is at least -2. d is clipped to ±8. ℓ₀ is one number for matrices and one for vectors
    and scalars, and the terms that are added to it are clipped to ±5.

    Returns:
      A `LearnedOptimizer` with 24 weights; `init` ignores its key. Before meta-training d = o, λ = .1,
      ℓ = .4 - .4 log(num_steps / 400), the initial D is .005 of the mean size, and the exponent is .5. Without
      `num_steps`, learned constants replace 2τ - 1 and ½ log(num_steps / 400). State: four float32 copies of the
      parameters (momentum, v, Prodigy's sum, the initial parameters), a number for each tensor, three numbers for all
      and a step counter. Updates do not depend on the scale of the gradients between 1e-8 and 1e14, and are finite at
      any scale.

    Deviations from Prodigy: second moments have decay .99 and are bias-corrected. Gradients in the estimate are
    weighted by D² alone, not by the learned step size too. The initial D is in units of the parameters.
    Deviations from Muon: the direction is Adam's and keeps its root mean square. Large matrices are split into blocks.
    There are three iterations instead of five.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> optimizer = prodigy_muon()
      >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)), num_steps=400)
      >>> params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
      >>> grads = jax.tree.map(jnp.ones_like, params)
      >>> updates, state = tx.update(grads, tx.init(params), params)
      >>> print(f"{updates['w'][0, 0]:.5f} {updates['b'][0]:.5f}")  # .005 times the mean size .775 times e^.4
      -0.00578 -0.00578
    """

    def init(key):
        del key
        return _init_theta()

    def rule(theta, horizon):
        def update(grads, params, slots, shared, step, loss):
            del loss
            if not grads:
                return [], [], shared
            return _update(theta, horizon, grads, params, slots, shared, step)

        def first_distance(params):
            return distance.first(params, theta["distance"]["log_first"])

        return Rule(Slots(Averages(momentum, zeros, number), distance.SLOTS), update, first_distance)

    return define({"kind": "prodigy_muon", "feature_version": FEATURE_VERSION}, init, rule)


def _init_theta():
    zero = jnp.zeros((), jnp.float32)
    before_training = TensorFeatures(*[zero] * len(TensorFeatures._fields))._replace(length=zero + 2.0 * _EXPONENT)
    return {
        "direction": {
            "constant": jnp.stack(Directions(orthogonal=zero + 1.0, nesterov=zero, plain=zero)),
            "slope": jnp.zeros((len(Directions._fields),), jnp.float32),
            "lookahead": jnp.asarray(math.log(_LOOKAHEAD / (1.0 - _LOOKAHEAD)), jnp.float32),  # input of a sigmoid
        },
        "distance": {"log_first": jnp.asarray(math.log(_FIRST_DISTANCE), jnp.float32)},
        "step": {
            "base": jnp.full((2,), _BASE, jnp.float32),  # for matrices, for vectors
            "skip": jnp.stack(before_training),
        },
        "unknown_horizon": {
            "exponent": jnp.asarray(_UNKNOWN_EXPONENT, jnp.float32),
            "progress": jnp.zeros((2,), jnp.float32),
        },
    }


def _update(theta, horizon, grads, params, slots, shared, step):
    unknown = theta["unknown_horizon"]
    stand_ins = jnp.pad(unknown["progress"], (0, 1))  # 0 for τ⁴, which is not a feature here
    progress, decay = schedule.progress(step, horizon, stand_ins)
    decay = jnp.where(progress.known > 0.0, decay, schedule.anytime(step, unknown["exponent"]))
    weights = theta["direction"]["constant"] + progress.position * theta["direction"]["slope"]
    lookahead = jax.nn.sigmoid(theta["direction"]["lookahead"])
    measured, ratio, shared = distance.measure(grads, params, [slot.distance for slot in slots], shared)
    updates, new_slots = [], []
    for grad, param, slot, of_distance in zip(grads, params, slots, measured, strict=True):
        directions, size, certain, averages = _directions(grad, slot.averages, lookahead, step)
        is_vector, squareness = _shape_features(param)
        c = TensorFeatures(
            position=progress.position,
            early=schedule.early(step),
            length=progress.length,
            decay=0.5 * jnp.log(decay),
            known=progress.known,
            size=size,
            certain=certain,
            relative=distance.relative_size(param, shared.distance),
            ratio=ratio,
            is_vector=is_vector,
            squareness=squareness,
        )
        log_step = schedule.log_step(theta["step"], jnp.stack(c), param.ndim < 2)
        direction = sum(weight * each for weight, each in zip(weights, directions, strict=True))
        step_size = jnp.exp(log_step) * decay * shared.distance
        updates.append(-step_size * jnp.clip(direction, -8.0, 8.0))
        new_slots.append(Slots(averages, of_distance))
    return updates, new_slots, shared


def _directions(grad, averages, lookahead, step):
    """Returns the directions, the features `size` and `certain`, and the new averages."""
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
        orthogonal = orthogonalize(nesterov, NUM_ITERATIONS, MAX_BLOCK)
        orthogonal = orthogonal * (size * jax.lax.rsqrt(features.mean_square(orthogonal) + 1e-12))
    certain = 0.5 * jnp.log(jnp.clip(agreement / jnp.square(root), 1e-3, 4.0)) + 1.5
    directions = Directions(orthogonal, nesterov, plain)
    return directions, jnp.log(size + 1e-3) + 1.0, certain, Averages(m, v, agreement)


def _shape_features(param):
    """Returns the features `is_vector` and `squareness`."""
    if param.ndim < 2:
        return jnp.ones((), jnp.float32), jnp.zeros((), jnp.float32)
    sides = sorted((param.shape[-1], param.size // param.shape[-1]))
    return jnp.zeros((), jnp.float32), jnp.asarray(0.5 * math.log(sides[0] / sides[1]), jnp.float32)
