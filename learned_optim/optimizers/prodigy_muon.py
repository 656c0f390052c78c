"""Muon's directions with steps in units of Prodigy's distance and a learned schedule: no learning rate, 24 weights.

Our own architecture. Prodigy's estimate of the distance to a solution tells how long steps are (Mishchenko and Defazio
2023, https://arxiv.org/abs/2306.06101). Matrices move in the direction of Adam with Nesterov's momentum after its
singular values were brought near to one, as Muon does with momentum (Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon). Meta-training learns what both leave open: the schedule, how it depends on
the number of steps and on the tensor, and the mix of directions.
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
MAX_BLOCK = 64  # rows of a matrix that are orthogonalised together
NUM_ITERATIONS = 3  # of Newton and Schulz
# Values before meta-training.
_BASE = 0.4  # of the logarithm of the step
_EXPONENT = -0.4  # of num_steps in the step
_FIRST_DISTANCE = 0.005  # in units of the parameters' mean size
_UNKNOWN_EXPONENT = 0.5  # of the decay where the number of steps is not known
_LOOKAHEAD = 0.1  # weight of the gradient beside its average
_TINY = 1e-24  # added to mean squares


class Averages(NamedTuple):
    """What the directions need of the gradients before."""

    momentum: Any  # m, moving average of the gradient, decay .9
    moment: Any  # v, moving average of the squared gradient, decay .99
    agreement: Any  # float32[] of the tensor: moving average of mean(g m) over mean(v), decay .99


class TensorFeatures(NamedTuple):
    """The c of a tensor: float32[] each."""

    position: jax.Array  # 2τ - 1
    early: jax.Array  # exp(-t / 20)
    length: jax.Array  # ½ log(num_steps / 400)
    decay: jax.Array  # ½ log γ
    known: jax.Array  # whether num_steps is known
    size: jax.Array  # log(root mean square of u + .001) + 1
    certain: jax.Array  # ½ log of the agreement, + 1.5: low where gradients are noise
    relative: jax.Array  # ½ log(.02 size / D)
    ratio: jax.Array  # ½ log(D̂ / D) + 1
    is_vector: jax.Array  # 1 for vectors and scalars
    squareness: jax.Array  # ½ log(shorter / longer side)


class Slots(NamedTuple):
    """State of a tensor."""

    averages: Any  # `Averages`
    distance: Any  # `distance.Slots`


def prodigy_muon() -> LearnedOptimizer:
    r"""Builds the Prodigy-and-Muon optimizer.

    .. math::
      \Delta p = -D \, e^\ell \, \gamma \, d, \qquad d = (a + (2\tau - 1) \, a')^\top (o, u, s), \qquad
      \ell = \ell_0 + k^\top c

    The decay γ is max(1 - τ, .01) with the progress τ = t / num_steps, or (1 + t / 100) to the power of minus a learned
    exponent where num_steps is not known. D is the estimate of `learned_optim.distance`, and begins at a learned
    constant times the mean over all coordinates of their tensor's size: its root mean square, but at least 0.1 /
    √fan_in, or 0.1 for vectors and scalars. The directions are

    - s: the gradient over √v̂, clipped to ±4, with v̂ the bias-corrected average of g² of decay .99;
    - u: the same of (1 - λ) m + λ g, bias-corrected, with m the average of gradients of decay .9 and a learned λ;
    - o: u for vectors and scalars. Of other tensors, seen as matrices of their last dimension, u with its singular
      values brought near to one in blocks of up to 64 rows of the shorter side (`learned_optim.orthogonal`), and with
      the root mean square of u.

    The c of the run are 2τ - 1, exp(-t / 20), ½ log(num_steps / 400), ½ log γ and whether num_steps is known; those of
    the tensor log(rms u + .001) + 1, ½ log r + 1.5 with r the average of decay .99 of mean(g m) over mean(v), cut to
    [.001, 4], which is near 0 if gradients are noise, ½ log(.02 size / D), clipped to ±3, ½ log(D̂ / D) + 1, at least
    -2, 1 for vectors, and ½ log(shorter / longer side). d is clipped to ±8, and what is added to ℓ₀, one for matrices
    and one for vectors, to ±5.

    Returns:
      A `LearnedOptimizer` with 24 weights; `init` ignores its key. Before meta-training d = o, λ = .1,
      ℓ = .4 - .4 log(num_steps / 400), D begins at .005 of the mean size, and the exponent is .5. Without `num_steps` a
      learned constant each stands in for 2τ - 1 and ½ log(num_steps / 400). State: four float32 copies of the
      parameters (momentum, v, Prodigy's sum, the first parameters), a number for each tensor, three for all and a step
      counter. Gradients may have any scale: from 1e-8 to 1e14 it changes nothing, beyond it updates stay finite.

    Deviations from Prodigy: second moments of decay .99, bias-corrected; D² alone weights the gradients in the
    estimate, not the learned step; D starts in units of the parameters. Deviations from Muon: the direction is Adam's
    and keeps its root mean square; blocks, and three iterations instead of five.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> optimizer = prodigy_muon()
      >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)), num_steps=400)
      >>> params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
      >>> grads = jax.tree.map(jnp.ones_like, params)
      >>> updates, state = tx.update(grads, tx.init(params), params)
      >>> print(f"{updates['w'][0, 0]:.5f} {updates['b'][0]:.5f}")  # .005 of the mean size, .775, times e^.4
      -0.00578 -0.00578
    """

    def init(key):
        del key
        zero = jnp.zeros((), jnp.float32)
        before_training = TensorFeatures(*[zero] * len(TensorFeatures._fields))._replace(length=zero + 2.0 * _EXPONENT)
        return {
            "direction": {
                "constant": jnp.zeros((3,), jnp.float32).at[0].set(1.0),
                "slope": jnp.zeros((3,), jnp.float32),
                "lookahead": jnp.asarray(math.log(_LOOKAHEAD / (1.0 - _LOOKAHEAD)), jnp.float32),  # of a sigmoid
            },
            "distance": {"log_first": jnp.asarray(math.log(_FIRST_DISTANCE), jnp.float32)},
            "step": {
                "base": jnp.full((2,), _BASE, jnp.float32),  # matrices, vectors
                "skip": jnp.stack(before_training),
            },
            "unknown_horizon": {
                "exponent": jnp.asarray(_UNKNOWN_EXPONENT, jnp.float32),
                "progress": jnp.zeros((2,), jnp.float32),
            },
        }

    def rule(theta, horizon):
        def update_all(grads, params, slots, shared, step, loss):
            del loss
            if not grads:
                return [], [], shared
            unknown = theta["unknown_horizon"]
            stand_ins = jnp.pad(unknown["progress"], (0, 1))  # none for τ⁴, which is not used
            progress, decay = schedule.progress(step, horizon, stand_ins)
            decay = jnp.where(progress.known > 0.0, decay, schedule.anytime(step, unknown["exponent"]))
            weights = theta["direction"]["constant"] + progress.position * theta["direction"]["slope"]
            lookahead = jax.nn.sigmoid(theta["direction"]["lookahead"])
            measured, ratio, shared = distance.measure(grads, params, [slot.distance for slot in slots], shared)
            updates, new_slots = [], []
            for grad, param, slot, of_distance in zip(grads, params, slots, measured, strict=True):
                directions, observed, averages = _directions(grad, slot.averages, lookahead, step)
                is_vector, squareness = _shape_features(param)
                c = TensorFeatures(
                    position=progress.position,
                    early=schedule.early(step),
                    length=progress.length,
                    decay=0.5 * jnp.log(decay),
                    known=progress.known,
                    size=observed[0],
                    certain=observed[1],
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

        first_distance = lambda params: distance.first(params, theta["distance"]["log_first"])
        return Rule(Slots(Averages(momentum, zeros, number), distance.SLOTS), update_all, first_distance)

    return define({"kind": "prodigy_muon", "feature_version": FEATURE_VERSION}, init, rule)


def _directions(grad, averages, lookahead, step):
    """The three directions, two features of the tensor, and new averages: momentum, second moment, agreement."""
    m, v, agreement = averages
    v = features.second_moment(grad, v, MOMENT_DECAY)
    unit, rsqrt = adam_features.inverse_moment(v)
    root = jnp.sqrt(1.0 - MOMENT_DECAY ** (step + 1.0))
    normalize = rsqrt * (unit * root)
    left = MOMENTUM_DECAY**step  # of the average before this gradient, what is still of its first value, zero
    limited = jnp.clip(grad, -features.MAX_GRADIENT, features.MAX_GRADIENT)
    product = jnp.mean((limited * unit) * (m * unit)) / jnp.maximum(1.0 - left, 1.0 - MOMENTUM_DECAY)
    agreement = agreement + (1.0 - MOMENT_DECAY) * (product - agreement)
    (m,) = features.momenta(grad, (m,), (MOMENTUM_DECAY,))
    ahead = m + lookahead * (grad - m)
    correction = 1.0 / (1.0 - (1.0 - lookahead) * (MOMENTUM_DECAY * left))
    nesterov = jnp.clip(ahead * (normalize * correction), -4.0, 4.0)
    plain = jnp.clip(grad * normalize, -4.0, 4.0)
    size = jnp.sqrt(features.mean_square(nesterov) + _TINY)
    orthogonal = nesterov
    if grad.ndim > 1:
        orthogonal = orthogonalize(nesterov, NUM_ITERATIONS, MAX_BLOCK)
        orthogonal = orthogonal * (size * jax.lax.rsqrt(features.mean_square(orthogonal) + 1e-12))
    certain = 0.5 * jnp.log(jnp.clip(agreement / jnp.square(root), 1e-3, 4.0)) + 1.5
    return (orthogonal, nesterov, plain), (jnp.log(size + 1e-3) + 1.0, certain), Averages(m, v, agreement)


def _shape_features(param):
    """Whether the tensor is a vector, and how far its matrix is from a square."""
    if param.ndim < 2:
        return jnp.ones((), jnp.float32), jnp.zeros((), jnp.float32)
    sides = sorted((param.shape[-1], param.size // param.shape[-1]))
    return jnp.zeros((), jnp.float32), jnp.asarray(0.5 * math.log(sides[0] / sides[1]), jnp.float32)
