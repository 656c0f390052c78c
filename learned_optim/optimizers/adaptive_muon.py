"""Muon's directions with a controlled step size for each tensor, decay and a learned schedule: no learning rate.

Our own architecture. A matrix moves in the direction of Adam with Nesterov momentum, orthogonalized as Muon does with
momentum (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon). Its step size begins at a share of its size,
and a controller that follows the sign of Prodigy's estimate of the distance to a solution (Mishchenko and Defazio 2023,
https://arxiv.org/abs/2306.06101) lengthens and shortens it. Meta-training learns the controller, the schedule, the
decay of the parameters, and the mix of directions.
"""

import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_optim import muon_directions
from learned_optim import schedule
from learned_optim import step_control
from learned_optim.base import LearnedOptimizer
from learned_optim.base import Rule
from learned_optim.base import define
from learned_optim.muon_directions import Directions

FEATURE_VERSION = 1
MAX_BLOCK = 32  # rows of a matrix that are orthogonalized together
# Values before meta-training.
_UNKNOWN_EXPONENT = 0.5  # of the decay if the number of steps is not known
_LOOKAHEAD = 0.1  # λ, the weight of the gradient in Nesterov momentum
_DECAY = 0.01  # ω, the weight of the parameters beside the direction


class TensorFeatures(NamedTuple):
    """The features c of a tensor, float32[] each."""

    position: jax.Array  # 2τ - 1
    early: jax.Array  # exp(-t / 20)
    length: jax.Array  # ½ log(num_steps / 400)
    decay: jax.Array  # ½ log γ
    known: jax.Array  # 1 if num_steps is known, 0 if not
    size: jax.Array  # log(root mean square of u + .001) + 1
    certain: jax.Array  # ½ log(agreement) + 1.5, low if gradients are mostly noise
    signal: jax.Array  # that of the controller, from -1 (shorter steps) to 1 (longer steps)
    growth: jax.Array  # ½ log(D / initial D)
    expansion: jax.Array  # log(size now / size before the first update)
    is_vector: jax.Array  # 1 for vectors and scalars, 0 for others
    squareness: jax.Array  # ½ log(shorter / longer side)


NUM_FEATURES = len(TensorFeatures._fields)


class Slots(NamedTuple):
    """State of a tensor."""

    averages: Any  # `muon_directions.Averages`
    control: Any  # `step_control.Slots`


def adaptive_muon() -> LearnedOptimizer:
    r"""Builds the optimizer with Muon's directions and controlled step sizes.

    .. math::
      \Delta p = -D \, e^\ell \, \gamma \, (d + \omega \, p / s_0), \qquad
      d = (a + (2\tau - 1) \, a')^\top (o, u, s), \qquad \ell = k^\top c, \qquad \log \omega = \omega_0 + q^\top c

    The decay γ is max(1 - τ, .01) with the progress τ = t / num_steps. If num_steps is not known, it is (1 + t / 100)
    to the power of minus a learned exponent. D is the step size of `learned_optim.step_control`, one number for each
    tensor. It starts at a learned share of s₀, the size of the tensor before the first update. The size is the root
    mean square, but at least 0.1 / √fan_in; it is 0.1 for vectors and scalars.

    The three directions are those of `learned_optim.muon_directions`: o is u for vectors and scalars, and for other
    tensors the orthogonalized u, in blocks of up to 32 rows of the shorter side; u is Adam's with Nesterov momentum;
    s is g / √v̂. The weight λ of the gradient in the momentum is learned.

    The features c are those of `TensorFeatures`. The agreement in the feature `certain` is clipped to [.001, 4], and
    `expansion` to ±5. d is clipped to ±8, ℓ to ±5, and q c to ±5. Vectors and scalars do not decay: their ω is 0.

    Returns:
      A `LearnedOptimizer` with 42 weights; `init` ignores its key. Before meta-training d = o, λ = .1, ℓ = 0,
      ω = .01, the initial D is .1 of the size, and the exponent is .5. Without `num_steps`, learned constants replace
      2τ - 1 and ½ log(num_steps / 400). State: two float32 copies of the parameters (momentum and v), two numbers for
      each of up to 4,096 coordinates of a tensor, four more numbers for each tensor, and a step counter. Updates do not
      depend on the scale of the gradients between 1e-8 and 1e14, and are finite at any scale.

    Deviations from Prodigy: see `learned_optim.step_control`. Deviations from Muon: the direction is Adam's and keeps
    its root mean square. Large matrices are split into blocks. There are three iterations instead of five. Weights
    decay in proportion to their size before the first update.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> optimizer = adaptive_muon()
      >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)), num_steps=400)
      >>> params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
      >>> grads = jax.tree.map(jnp.ones_like, params)
      >>> updates, state = tx.update(grads, tx.init(params), params)
      >>> print(f"{updates['w'][0, 0]:.5f} {updates['b'][0]:.5f}")  # .1 e^.044 times the sizes 1 and .1; w also decays
      -0.10551 -0.01045
    """

    def init(key):
        del key
        return _init_theta()

    def rule(theta, horizon):
        def update(grads, params, slots, shared, step, loss):
            del loss
            return *_update(theta, horizon, grads, params, slots, step), shared

        return Rule(Slots(muon_directions.SLOTS, step_control.SLOTS), update)

    return define({"kind": "adaptive_muon", "feature_version": FEATURE_VERSION}, init, rule)


def _init_theta():
    zero = jnp.zeros((), jnp.float32)
    return {
        "direction": {
            "constant": jnp.stack(Directions(orthogonal=zero + 1.0, nesterov=zero, plain=zero)),
            "slope": jnp.zeros((len(Directions._fields),), jnp.float32),
            "lookahead": jnp.asarray(math.log(_LOOKAHEAD / (1.0 - _LOOKAHEAD)), jnp.float32),  # input of a sigmoid
        },
        "control": step_control.init(),
        "step": jnp.zeros((NUM_FEATURES,), jnp.float32),  # k
        "decay": {
            "base": jnp.asarray(math.log(_DECAY), jnp.float32),  # ω₀
            "skip": jnp.zeros((NUM_FEATURES,), jnp.float32),  # q
        },
        "unknown_horizon": {
            "exponent": jnp.asarray(_UNKNOWN_EXPONENT, jnp.float32),
            "progress": jnp.zeros((2,), jnp.float32),
        },
    }


def _update(theta, horizon, grads, params, slots, step):
    """Returns the updates and the new slots."""
    unknown = theta["unknown_horizon"]
    stand_ins = jnp.pad(unknown["progress"], (0, 1))  # 0 for τ⁴, which is not a feature here
    progress, decay = schedule.progress(step, horizon, stand_ins)
    decay = jnp.where(progress.known > 0.0, decay, schedule.anytime(step, unknown["exponent"]))
    weights = theta["direction"]["constant"] + progress.position * theta["direction"]["slope"]
    lookahead = jax.nn.sigmoid(theta["direction"]["lookahead"])
    updates, new_slots = [], []
    for grad, param, slot in zip(grads, params, slots, strict=True):
        made = muon_directions.make(grad, slot.averages, lookahead, step, max_block=MAX_BLOCK)
        controlled = step_control.advance(theta["control"], grad, param, slot.control, step)
        first_size = slot.control.first_size
        is_vector = param.ndim < 2
        c = TensorFeatures(
            position=progress.position,
            early=schedule.early(step),
            length=progress.length,
            decay=0.5 * jnp.log(decay),
            known=progress.known,
            size=made.size,
            certain=made.certain,
            signal=controlled.signal,
            growth=0.5 * controlled.slots.growth,
            expansion=jnp.clip(jnp.log(schedule.size(param)) - first_size, -5.0, 5.0),
            is_vector=jnp.asarray(is_vector, jnp.float32),
            squareness=jnp.asarray(muon_directions.squareness(param), jnp.float32),
        )
        c = jnp.stack(c)
        direction = sum(weight * each for weight, each in zip(weights, made.directions, strict=True))
        direction = jnp.clip(direction, -8.0, 8.0)
        if not is_vector:
            log_decay = theta["decay"]["base"] + jnp.clip(c @ theta["decay"]["skip"], -5.0, 5.0)
            direction = direction + jnp.exp(log_decay - first_size) * param
        step_size = jnp.exp(controlled.log_size + jnp.clip(c @ theta["step"], -5.0, 5.0)) * decay
        updates.append(-step_size * direction)
        new_slots.append(Slots(made.averages, controlled.slots))
    return updates, new_slots
