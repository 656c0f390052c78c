"""Muon's directions with a controlled step size for each tensor, decay and a learned schedule: no learning rate.

Our own architecture. A matrix moves in the direction of Adam with Nesterov momentum, orthogonalized as Muon does with
momentum (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon). Its step size begins at a share of its size,
and a controller that follows the sign of Prodigy's estimate of the distance to a solution (Mishchenko and Defazio 2023,
https://arxiv.org/abs/2306.06101) lengthens and shortens it. Meta-training learns the controller, the schedule, and the
decay of the parameters.
"""

import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_optim import features
from learned_optim import muon_directions
from learned_optim import samples
from learned_optim import schedule
from learned_optim import step_control
from learned_optim.base import LearnedOptimizer
from learned_optim.base import Rule
from learned_optim.base import define
from learned_optim.base import momentum
from learned_optim.base import zeros
from learned_optim.blocks import num_blocks
from learned_optim.orthogonal import orthogonalize_all

FEATURE_VERSION = 1
MOMENTUM_DECAY = 0.9
MOMENT_DECAY = 0.99
MAX_BLOCK = 64  # rows of a matrix that are orthogonalized together
NUM_ITERATIONS = 3  # Newton–Schulz iterations
MOST = 4.0  # of the absolute value of a coordinate of a direction
_TINY = 1e-24  # added to second moments and mean squares
# Values before meta-training.
_UNKNOWN_EXPONENT = 0.8  # of the decay if the number of steps is not known
_LOOKAHEAD = 0.25  # λ, the weight of the gradient in Nesterov momentum
_SIZE = -0.5  # k at `size`: a direction half as large makes updates 1/√2 as large
_SIGNAL = 0.3  # k at `signal`: longer steps as soon as the controller asks for them, before D has grown
_EXPANSION = -0.3  # k at `expansion`
_BLOCKS = -1.0  # k at `blocks`: n blocks together may have √n times the spectral norm of one, at the same mean square
_DECAY = 2e-3  # ω, the share by which matrices shrink in an update, before it is multiplied by γ
_DECAY_EXPONENT = -0.5  # ω is proportional to num_steps to this power
_DECAY_EXPANSION = 3.0  # q at `expansion`: matrices of twice their usual size shrink eight times as fast
_DECAY_GROWTH = -3.0  # q at `growth`: where steps had to grow, weights have to be large


class TensorFeatures(NamedTuple):
    """The features c, float32[tensors] each."""

    position: jax.Array  # 2τ - 1
    early: jax.Array  # exp(-t / 20)
    length: jax.Array  # ½ log(num_steps / 400)
    decay: jax.Array  # ½ log γ
    known: jax.Array  # 1 if num_steps is known, 0 if not
    size: jax.Array  # log(root mean square of u + .001) + 1
    certain: jax.Array  # ½ log(agreement) + 1.5, low if gradients are mostly noise
    signal: jax.Array  # that of the controller, from -1 (shorter steps) to 1 (longer steps)
    growth: jax.Array  # ½ log(D / initial D)
    expansion: jax.Array  # log(size now / usual size); that is the first one, at least 1 / √fan_in for matrices
    is_vector: jax.Array  # 1 for vectors and scalars, 0 for others
    squareness: jax.Array  # ½ log(shorter / longer side) of a tensor as a matrix, 0 for vectors and scalars
    blocks: jax.Array  # ½ log(number of blocks of rows), 0 for vectors and scalars


NUM_FEATURES = len(TensorFeatures._fields)


class Averages(NamedTuple):
    """Moving averages of the gradients of a tensor, or of the samples of all tensors."""

    momentum: Any  # m, of the gradient, decay .9
    moment: Any  # v, of the squared gradient, decay .99


class Shared(NamedTuple):
    """State of all tensors together."""

    averages: Averages  # float32[tensors, sample] each, those of the samples
    agreement: jax.Array  # float32[tensors], moving average of mean(g m) / mean(v), decay .99
    control: step_control.Control  # of the step sizes


def adaptive_muon() -> LearnedOptimizer:
    r"""Builds the optimizer with Muon's directions and controlled step sizes.

    .. math::
      \Delta p = -\gamma \, (D \, e^\ell \, d + \omega \, p), \qquad
      \ell = k^\top c, \qquad \log \omega = \omega_0 + q^\top c

    The decay γ is max(1 - τ, .01) with the progress τ = t / num_steps. If num_steps is not known, it is (1 + t / 100)
    to the power of minus a learned exponent. D is the step size of `learned_optim.step_control`, one number for each
    tensor. It starts at a learned share of the size of the tensor before the first update. The size is the root mean
    square, but at least 0.1 / √fan_in; it is 0.1 for vectors and scalars.

    With the average m of gradients of decay .9, the average v of g² of decay .99, and a learned λ,
    u = ((1 - λ) m + λ g) / √v, bias-corrected and clipped to ±4. The direction d of vectors and scalars is u. Other
    tensors are treated as matrices whose columns are the last dimension: d is the orthogonalized u, in blocks of up to
    64 rows of the shorter side, with the root mean square of u (`orthogonal.orthogonalize_all`).

    The features c are those of `TensorFeatures`, computed from samples of up to 2,048 coordinates of each tensor
    (`learned_optim.samples`). The agreement in the feature `certain` is bias-corrected and clipped to [.001, 4], and
    `expansion` is clipped to ±5; so are ℓ and q c. Vectors and scalars do not decay: their ω is 0. The decay of a
    matrix follows its size: where a model learns its training data by heart, matrices grow, and the decay holds them.

    Returns:
      A `LearnedOptimizer` with 38 weights; `init` ignores its key. Before meta-training λ = .25,
      log ω = log .002 - `length` + 3 `expansion` - 3 `growth`, ℓ = -½ `size` + .3 `signal` - .3 `expansion` - `blocks`,
      the initial D is .14 of the size, and the exponent is .8. Without `num_steps`, learned constants replace 2τ - 1
      and ½ log(num_steps / 400). State: two float32 copies of the parameters (m and v), four numbers for each
      coordinate of the samples, four more for each tensor, and a step counter. The samples of all tensors are as long
      as the longest. Updates do not depend on the scale of gradients whose entries are between 1e-9 and 1e14, and are
      finite at any scale.

    Deviations from Prodigy: see `learned_optim.step_control`. Deviations from Muon: the direction is Adam's and keeps
    its root mean square. Matrices are split into blocks. There are three iterations instead of five.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> optimizer = adaptive_muon()
      >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)), num_steps=400)
      >>> params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
      >>> grads = jax.tree.map(jnp.ones_like, params)
      >>> updates, state = tx.update(grads, tx.init(params), params)
      >>> print(f"{updates['w'][0, 0]:.5f} {updates['b'][0]:.5f}")  # about .14 e^-½ of the sizes, and the decay
      -0.08398 -0.00820
    """

    def init(key):
        del key
        return _init_theta()

    def rule(theta, horizon):
        def update(grads, params, slots, shared, step, loss):
            del loss
            return _update(theta, horizon, grads, params, slots, shared, step) if grads else ([], [], shared)

        return Rule(Averages(momentum, zeros), update, first_shared)

    return define({"kind": "adaptive_muon", "feature_version": FEATURE_VERSION}, init, rule)


def _init_theta():
    zero = jnp.zeros((), jnp.float32)
    none = TensorFeatures(*[zero] * NUM_FEATURES)
    of_decay = none._replace(
        length=zero + 2.0 * _DECAY_EXPONENT, expansion=zero + _DECAY_EXPANSION, growth=zero + _DECAY_GROWTH
    )
    of_step = none._replace(
        size=zero + _SIZE, signal=zero + _SIGNAL, expansion=zero + _EXPANSION, blocks=zero + _BLOCKS
    )
    return {
        "control": step_control.init(),
        "decay": {
            "base": jnp.asarray(math.log(_DECAY), jnp.float32),  # ω₀
            "skip": jnp.stack(of_decay),  # q
        },
        "lookahead": jnp.asarray(math.log(_LOOKAHEAD / (1.0 - _LOOKAHEAD)), jnp.float32),  # input of a sigmoid
        "step": jnp.stack(of_step),  # k
        "unknown_horizon": {
            "exponent": jnp.asarray(_UNKNOWN_EXPONENT, jnp.float32),
            "progress": jnp.zeros((2,), jnp.float32),
        },
    }


def first_shared(params: list[jax.Array]) -> Shared:
    """The state that all tensors share before the first update."""
    rows, zero = samples.take(params), jnp.zeros((len(params),), jnp.float32)
    averages = Averages(jnp.zeros_like(rows), jnp.zeros_like(rows))
    return Shared(averages, zero, step_control.first(rows, step_control.log_sizes(params, rows)))


class Advanced(NamedTuple):
    """What `advance` returns: all that is computed from samples."""

    features: TensorFeatures  # float32[tensors] each, or numbers for all tensors
    log_step: jax.Array  # float32[tensors], log D
    decay: jax.Array  # float32[], γ
    direction: jax.Array  # float32[tensors, sample], u
    lookahead: tuple[jax.Array, jax.Array]  # float32[] each: λ, and the bias correction of u
    shared: Shared  # after this gradient


def advance(
    theta: Any,
    horizon: jax.Array,
    grad_rows: jax.Array,
    param_rows: jax.Array,
    params: list[jax.Array],
    shared: Any,
    step: jax.Array,
) -> Advanced:
    """Computes the features of all tensors and advances what they share.

    Args:
      theta: as `adaptive_muon` has it; the controller's bias may be an array, float32[tensors].
      horizon: planned number of updates, float32[], 0 if it is not known.
      grad_rows, param_rows: samples of the gradients and of the tensors, float32[tensors, sample].
      params: the tensors.
      shared: a NamedTuple with the fields of `Shared`.
      step: number of updates made so far, float32[].
    """
    unknown = theta["unknown_horizon"]
    stand_ins = jnp.pad(unknown["progress"], (0, 1))  # 0 for τ⁴, which is not a feature here
    progress, decay = schedule.progress(step, horizon, stand_ins)
    decay = jnp.where(progress.known > 0.0, decay, schedule.anytime(step, unknown["exponent"]))
    lookahead, correction = momentum_factors(jax.nn.sigmoid(theta["lookahead"]), step)
    is_vector = jnp.asarray([param.ndim < 2 for param in params], jnp.float32)

    direction_rows, averages = nesterov(grad_rows, shared.averages, lookahead, correction)
    agreement = _agreement(grad_rows, shared.averages.momentum, averages.moment, shared.agreement, step)
    controlled = step_control.advance(theta["control"], grad_rows, param_rows, is_vector, shared.control, step)
    size = jnp.sqrt(samples.mean_squares(direction_rows, samples.sizes(params)) + _TINY)
    certain = jnp.clip(agreement / (1.0 - MOMENT_DECAY ** (step + 1.0)), 1e-3, 4.0)
    c = TensorFeatures(
        position=progress.position,
        early=schedule.early(step),
        length=progress.length,
        decay=0.5 * jnp.log(decay),
        known=progress.known,
        size=jnp.log(size + 1e-3) + 1.0,
        certain=0.5 * jnp.log(certain) + 1.5,
        signal=controlled.signal,
        growth=0.5 * controlled.control.growth,
        expansion=jnp.clip(
            step_control.log_sizes(params, param_rows) - step_control.log_usual(params, shared.control.first_size),
            -5.0,
            5.0,
        ),
        is_vector=is_vector,
        squareness=jnp.asarray([muon_directions.squareness(param) for param in params], jnp.float32),
        blocks=jnp.asarray([_log_blocks(param) for param in params], jnp.float32),
    )
    shared = Shared(averages, agreement, controlled.control)
    return Advanced(c, controlled.log_step, decay, direction_rows, (lookahead, correction), shared)


def _update(theta, horizon, grads, params, slots, shared, step):
    made = advance(theta, horizon, samples.take(grads), samples.take(params), params, shared, step)
    c = jnp.stack([jnp.broadcast_to(feature, made.log_step.shape) for feature in made.features], axis=1)
    steps = jnp.exp(made.log_step + jnp.clip(c @ theta["step"], -5.0, 5.0)) * made.decay
    shrink = jnp.exp(theta["decay"]["base"] + jnp.clip(c @ theta["decay"]["skip"], -5.0, 5.0)) * made.decay
    results = [nesterov(grad, slot, *made.lookahead) for grad, slot in zip(grads, slots, strict=True)]
    updates = scaled([direction for direction, _ in results], params, steps, shrink)
    return updates, [averages for _, averages in results], made.shared


def scaled(directions: list[jax.Array], params: list[jax.Array], steps: jax.Array, shrink: jax.Array) -> list[Any]:
    """The updates: directions, of matrices after they are orthogonalized, times steps, and the decay of matrices.

    Args:
      directions, params: one array for each tensor.
      steps, shrink: float32[tensors], the factors of the directions and of the parameters.
    """
    directions = list(directions)
    matrices = [i for i, param in enumerate(params) if param.ndim > 1]
    orthogonal = orthogonalize_all([directions[i] for i in matrices], NUM_ITERATIONS, MAX_BLOCK)
    for i, direction in zip(matrices, orthogonal, strict=True):
        directions[i] = direction
    factors, updates = jnp.concatenate([steps, shrink]), []
    for i, (param, direction) in enumerate(zip(params, directions, strict=True)):
        # Indices in an array, instead of a slice, let XLA compile one kernel for all tensors of a shape.
        own_step, own_shrink = factors[np.array([i, len(params) + i])]
        update = -own_step * direction
        updates.append(update - own_shrink * param if param.ndim > 1 else update)
    return updates


def _log_blocks(param):
    """½ log of the number of blocks in which the tensor is orthogonalized; 0 for vectors, scalars and empty tensors."""
    return 0.5 * math.log(max(1, num_blocks(param.shape, MAX_BLOCK))) if param.ndim > 1 else 0.0


def momentum_factors(lookahead: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns λ, and the bias correction of u."""
    correction = jnp.sqrt(1.0 - MOMENT_DECAY ** (step + 1.0))
    return lookahead, correction / (1.0 - (1.0 - lookahead) * MOMENTUM_DECAY ** (step + 1.0))


def nesterov(grad: jax.Array, averages: Any, lookahead: jax.Array, correction: jax.Array) -> tuple[jax.Array, Averages]:
    """Returns u, Adam's direction with Nesterov momentum, and the new averages."""
    grad = jnp.clip(grad, -features.MAX_GRADIENT, features.MAX_GRADIENT)
    (m,) = features.momenta(grad, (averages.momentum,), (MOMENTUM_DECAY,))
    v = features.second_moment(grad, averages.moment, MOMENT_DECAY)
    return over_root(m + lookahead * (grad - m), correction, v), Averages(m, v)


def over_root(x: jax.Array, factor: jax.Array, moment: jax.Array) -> jax.Array:
    """x times the factor over the root of its second moment, clipped to ±4. A constant where the moment is tiny."""
    return features.constant_where_small(jnp.clip(x * (factor / jnp.sqrt(moment + _TINY)), -MOST, MOST), moment)


def _agreement(grad, momentum, moment, agreement, step):
    """Returns the new moving average of mean(g m) / mean(v), with the momentum before this gradient."""
    limited = jnp.clip(grad, -features.MAX_GRADIENT, features.MAX_GRADIENT)
    product = features.ratio(jnp.sum(limited * momentum, axis=1), jnp.sum(moment, axis=1) + _TINY)
    # The momentum is divided by its bias correction. At step 0, where both are 0, any positive denominator will do.
    product = product / jnp.maximum(1.0 - MOMENTUM_DECAY**step, 1.0 - MOMENTUM_DECAY)
    return agreement + (1.0 - MOMENT_DECAY) * (product - agreement)
