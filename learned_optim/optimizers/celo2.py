"""Celo2: a per-parameter network gives only the direction, normalized per tensor. The user sets step size and schedule.

Moudgil, Knyazev, Belilovsky 2026, "Celo2: Towards Learned Optimization Free Lunch",
https://arxiv.org/abs/2602.19142

Updates equal those of the authors' released code. The tests compare them with a float64 version of the equations that
reproduces the released code's updates, with and without Newton–Schulz iterations, for tensors of all ranks. Deviations:
- The released code lets Adam update embeddings too, which it finds by their names. A rule sees no names here: use
  `optax.multi_transform`, as docs/other-weights.md shows. There, too, is how to give Adam its own weight decay.
- Second moments, rows, columns and mean squares are bounded, so that they stay finite.
- The network has one output. The released code has two more, without effect at its settings.
"""

from collections.abc import Sequence
import math

import jax
import jax.numpy as jnp

from learned_optim import checks
from learned_optim import factored_features
from learned_optim import factored_moments
from learned_optim import factored_step
from learned_optim import features
from learned_optim import networks
from learned_optim import orthogonal
from learned_optim import schedule
from learned_optim.base import LearnedOptimizer
from learned_optim.base import define
from learned_optim.base import per_tensor

FEATURE_VERSION = 2  # version 1 treated a tensor of more than two dimensions as one matrix, and had other epsilons
MOMENTUM_DECAY = factored_moments.DECAYS.momentum[0]  # of Adam
RMS_DECAY = 0.95
DECAYS = factored_moments.Decays(rms=(RMS_DECAY,))
EPSILON = 1e-8  # added to second moments
A, B, C = orthogonal.COEFFICIENTS
_FLOOR = 1e-9  # added to mean squares before they normalize an input or the output
_OF_MATRICES = ("rows", "columns", "row_rsqrts", "column_rsqrts", "factored_momenta")  # inputs that vectors lack
_FIRST_SHARE, _FIRST_EXPONENT = 0.05, 0.5  # of `scheduled`, before meta-training
_SMALL = 1e-30  # keeps the derivative of a norm finite at 0


def celo2(
    hidden_sizes: Sequence[int] = (8, 8),
    *,
    step_size: float = 1e-3,
    vector_step_multiplier: float | None = 20.0,
    newton_schulz_steps: int = 0,
    bias_correction: bool = True,
    scheduled: bool = False,
) -> LearnedOptimizer:
    r"""Builds the Celo2 optimizer.

    .. math:: \Delta p = -\eta \, d / \mathrm{RMS}(d), \qquad d = \mathrm{MLP}(f)

    The inputs f are the 28 of `learned_optim.factored_mlp` with a decay of .95 for v, the gradient clipped to ±.1, and
    g/√v, each divided by its root mean square over the matrix. A tensor of more than two dimensions is a stack of
    matrices, its last two dimensions; rows and columns of the features are still those of the two largest dimensions. A
    vector has the 15 inputs that are no rows and columns, nor made of them. Gradients are clipped to ±1000. There are
    no time features: pass a schedule as `step_scale=` of `transform`, or add one by `optax.chain`.

    The authors' released Celo2 is `celo2(newton_schulz_steps=5)`, their Celo2-base
    `celo2(vector_step_multiplier=None)`.

    Args:
      hidden_sizes: widths of the hidden ReLU layers. The paper's network is (8, 8).
      step_size: root mean square of the updates, in units of the parameters; 1e-3 in meta-training.
      vector_step_multiplier: Adam (decays .9 and .95) updates tensors with fewer than two dimensions, with a step size
        of `vector_step_multiplier * step_size`. None: the network updates them too (the paper's Celo2-base).
      newton_schulz_steps: number of Newton–Schulz iterations, which orthogonalize the direction of each matrix before
        it is normalized. 5 is usual, 0 leaves the orthogonalization out.
      bias_correction: whether Adam corrects its moments for their bias, and adds 1e-8 to √v. False is Adam as it was
        when the authors meta-trained: without the correction, and 1e-8 is added to v.
      scheduled: whether step sizes and their decay are part of theta. `step_size` is without effect then.

    Returns:
      A `LearnedOptimizer`. `num_steps` is accepted, and used only if `scheduled`. State: four float32 copies of the
      parameters, three rows and three columns for each tensor (for a vector, three more copies and three numbers) and a
      step counter.

    Raises:
      ValueError: if hidden_sizes is empty or contains anything but positive whole numbers, or if newton_schulz_steps is
        negative.
      TypeError: if bias_correction or scheduled is not a bool.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> optimizer = celo2()
      >>> schedule = optax.cosine_decay_schedule(1.0, decay_steps=100)
      >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)), step_scale=schedule, weight_decay=1e-4)
      >>> params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
      >>> updates, state = tx.update(params, tx.init(params), params)
      >>> params = optax.apply_updates(params, updates)

    References:
      Moudgil et al. 2026, https://arxiv.org/abs/2602.19142
    """
    hidden_sizes = checks.sizes(hidden_sizes)
    step_size = checks.real_number("step_size", step_size)
    if vector_step_multiplier is not None:
        vector_step_multiplier = checks.real_number("vector_step_multiplier", vector_step_multiplier)
    newton_schulz_steps = checks.whole_number("newton_schulz_steps", newton_schulz_steps, 0, "0 leaves them out.")
    bias_correction = checks.flag("bias_correction", bias_correction)
    scheduled = checks.flag("scheduled", scheduled)
    network = networks.per_parameter_mlp(hidden_sizes, num_outputs=1)

    def init(key):
        theta = factored_features.init_network(network, key, extended=True)
        return {"network": theta, "schedule": _init_schedule()} if scheduled else theta

    def rule(theta, horizon):
        weights = theta["network"] if scheduled else theta

        def update(grad, param, slots, step):
            if scheduled:
                length = _scheduled_step(theta["schedule"], horizon, param, step)
            else:
                length = step_size
            if param.ndim < 2 and vector_step_multiplier is not None:
                direction, slots = _adam(grad, slots, step, bias_correction)
                return -length * vector_step_multiplier * direction, slots
            direction, slots = _direction(network, weights, grad, param, slots, max(hidden_sizes))
            if newton_schulz_steps and param.ndim > 1:
                direction = _orthogonalize(direction, newton_schulz_steps)
            return -length * direction * jax.lax.rsqrt(_FLOOR + _mean_square(direction)), slots

        return per_tensor(factored_moments.SLOTS, update)

    spec = {
        "kind": "celo2",
        "feature_version": FEATURE_VERSION,
        "hidden_sizes": list(hidden_sizes),
        "step_size": step_size,
        "vector_step_multiplier": vector_step_multiplier,
        "newton_schulz_steps": newton_schulz_steps,
        "bias_correction": bias_correction,
    }
    if scheduled:  # weights released before there was the option have no such field
        spec["scheduled"] = True
    return define(spec, init, rule)


def _init_schedule():
    share = jnp.asarray(math.log(_FIRST_SHARE), jnp.float32)
    return {"matrices": share, "vectors": share, "exponent": jnp.asarray(_FIRST_EXPONENT, jnp.float32)}


def _scheduled_step(theta, horizon, param, step):
    """The root mean square of the next update."""
    _, decay = schedule.progress(step, horizon, jnp.zeros((3,), jnp.float32))
    decay = jnp.where(horizon >= 1.0, decay, schedule.anytime(step, theta["exponent"]))
    share = theta["matrices" if param.ndim > 1 else "vectors"]
    return jnp.exp(share) * schedule.size(param) * decay


def _direction(network, theta, grad, param, slots, widest):
    """Returns the network's output for each coordinate, and the new slots."""
    grad = jnp.clip(grad, -factored_step.MAX_GRADIENT, factored_step.MAX_GRADIENT)
    observed, mean_squares, slots = factored_features.observe(
        grad, param, slots, DECAYS, extended=True, epsilon=EPSILON
    )
    if grad.ndim > 2:  # a stack of matrices, each with its own normalizers
        mean_squares = jax.tree.map(_mean_square, factored_features.inputs(observed, extended=True))
    scales = jax.tree.map(lambda square: jax.lax.rsqrt(_FLOOR + square), mean_squares)
    if grad.ndim < 2:
        scales = scales._replace(**dict.fromkeys(_OF_MATRICES, [jnp.zeros(())] * 3))
    ones = jnp.ones((factored_features.NUM_EXTENDED_FEATURES,), jnp.float32)
    stacks, factors = (scales, ones) if grad.ndim > 2 else ((), jnp.stack(jax.tree.leaves(scales)))

    def direction_of(arrays):
        observed, stacks = arrays
        inputs = factored_features.inputs(observed, extended=True)
        inputs = jax.tree.map(jnp.multiply, inputs, stacks) if grad.ndim > 2 else inputs
        return factored_features.apply_network(network, theta, inputs, factors)[0]

    return networks.in_blocks(direction_of, (observed, stacks), widest), slots


def _mean_square(x):
    """The mean square of each matrix, the last two dimensions of a tensor, or of a vector."""
    axes = tuple(range(max(0, x.ndim - 2), x.ndim))
    return jnp.minimum(jnp.mean(jnp.square(x), axis=axes, keepdims=True), features.MAX_MEAN_SQUARE)


def _adam(grad, slots, step, bias_correction):
    """Returns Adam's direction from the slots with decays .9 and .95, and the new slots. The others do not change."""
    first, *others = slots.momenta
    (momentum,) = features.momenta(grad, (first,), (MOMENTUM_DECAY,))
    moment = features.second_moment(grad, slots.moment, RMS_DECAY)
    slots = slots._replace(momenta=(momentum, *others), moment=moment)
    if not bias_correction:
        return momentum * features.inverse_sqrt(moment + EPSILON), slots
    corrected = momentum / (1.0 - MOMENTUM_DECAY ** (step + 1.0))
    root = jnp.sqrt(moment / (1.0 - RMS_DECAY ** (step + 1.0)))
    return corrected / (root + EPSILON), slots


def _orthogonalize(direction, num_iterations):
    """Moves the singular values of each matrix, the last two dimensions of a tensor, towards 1."""
    tall = direction.shape[-2] > direction.shape[-1]
    wide = direction.mT if tall else direction
    norm = jnp.sqrt(_SMALL + jnp.sum(jnp.square(wide), axis=(-2, -1), keepdims=True))
    wide = wide / (norm + EPSILON)
    for _ in range(num_iterations):  # on the matrix, whose rounding errors are a tenth of those on its Gram matrix
        gram = wide @ wide.mT
        wide = A * wide + (B * gram + C * (gram @ gram)) @ wide
    return wide.mT if tall else wide
