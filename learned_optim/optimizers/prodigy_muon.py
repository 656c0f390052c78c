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

from learned_optim import distance
from learned_optim import muon_directions
from learned_optim import schedule
from learned_optim.base import LearnedOptimizer
from learned_optim.base import Rule
from learned_optim.base import define
from learned_optim.muon_directions import Directions

FEATURE_VERSION = 1
MAX_BLOCK = 64  # rows of a matrix that are orthogonalized together
# Values before meta-training.
_BASE = 0.4  # ℓ₀, the log step size in units of D
_EXPONENT = -0.4  # the step size is proportional to num_steps to this power
_FIRST_DISTANCE = 0.005  # in units of the parameters' mean size
_UNKNOWN_EXPONENT = 0.5  # of the decay if the number of steps is not known
_LOOKAHEAD = 0.1  # λ, the weight of the gradient in Nesterov momentum


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


class Slots(NamedTuple):
    """State of a tensor."""

    averages: Any  # `muon_directions.Averages`
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

    The three directions are those of `learned_optim.muon_directions`: o is u for vectors and scalars, and for other
    tensors the orthogonalized u, in blocks of up to 64 rows of the shorter side; u is Adam's with Nesterov momentum;
    s is g / √v̂. The weight λ of the gradient in the momentum is learned.

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

        return Rule(Slots(muon_directions.SLOTS, distance.SLOTS), update, first_distance)

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
        made = muon_directions.make(grad, slot.averages, lookahead, step, max_block=MAX_BLOCK)
        c = TensorFeatures(
            position=progress.position,
            early=schedule.early(step),
            length=progress.length,
            decay=0.5 * jnp.log(decay),
            known=progress.known,
            size=made.size,
            certain=made.certain,
            relative=distance.relative_size(param, shared.distance),
            ratio=ratio,
            is_vector=jnp.asarray(param.ndim < 2, jnp.float32),
            squareness=jnp.asarray(muon_directions.squareness(param), jnp.float32),
        )
        log_step = schedule.log_step(theta["step"], jnp.stack(c), param.ndim < 2)
        direction = sum(weight * each for weight, each in zip(weights, made.directions, strict=True))
        step_size = jnp.exp(log_step) * decay * shared.distance
        updates.append(-step_size * jnp.clip(direction, -8.0, 8.0))
        new_slots.append(Slots(made.averages, of_distance))
    return updates, new_slots, shared
