"""Celo2: a per-parameter network gives only the direction, normalized per tensor. The user sets step size and schedule.

Moudgil, Knyazev, Belilovsky 2026, "Celo2: Towards Learned Optimization Free Lunch",
https://arxiv.org/abs/2602.19142

Deviations:
- Adam updates all tensors with fewer than two dimensions. The authors let Adam update embeddings too, which cannot be
  recognized by their shape: use `optax.multi_transform` for that.
- The decays of the moving averages are fixed, and the direction is orthogonalized before it is normalized. We could not
  confirm either from the paper.
- Second moments are bounded, so that gradients of any scale give finite updates (`features.second_moment`).
"""

from collections.abc import Sequence
import math

import jax
import jax.numpy as jnp

from learned_optim import checks
from learned_optim import factored_features
from learned_optim import factored_moments
from learned_optim import features
from learned_optim import networks
from learned_optim import orthogonal
from learned_optim.base import LearnedOptimizer
from learned_optim.base import define
from learned_optim.base import per_tensor

FEATURE_VERSION = 1
MOMENTUM_DECAY = factored_moments.DECAYS.momentum[0]  # of Adam
RMS_DECAY = 0.95
DECAYS = factored_moments.Decays(rms=(RMS_DECAY,))
EPSILON = 1e-8  # added to second moments


def celo2(
    hidden_sizes: Sequence[int] = (8, 8),
    *,
    step_size: float = 1e-3,
    vector_step_multiplier: float | None = 20.0,
    newton_schulz_steps: int = 0,
) -> LearnedOptimizer:
    r"""Builds the Celo2 optimizer.

    .. math:: \Delta p = -\eta \, d / \mathrm{RMS}(d), \qquad d = \mathrm{MLP}(f)

    The inputs f are the 28 of `learned_optim.factored_mlp` with a decay of .95 for v, the gradient clipped to ±.1, and
    g/√v, each divided by its root mean square over the tensor. There are no time features: pass a schedule as
    `step_scale=` of `transform`, or add one by `optax.chain`.

    Args:
      hidden_sizes: widths of the hidden ReLU layers. The paper's network is (8, 8).
      step_size: root mean square of the updates, in units of the parameters; 1e-3 in meta-training.
      vector_step_multiplier: Adam (decays .9 and .95) updates tensors with fewer than two dimensions, with a step size
        of `vector_step_multiplier * step_size`. None: the network updates them too (the paper's Celo2-base).
      newton_schulz_steps: number of Newton–Schulz iterations, which orthogonalize the direction of a matrix before it
        is normalized; the paper's Celo2 does this. A tensor with more dimensions is treated as a matrix whose columns
        are its last dimension. 5 is usual, 0 leaves the orthogonalization out.

    Returns:
      A `LearnedOptimizer`. `num_steps` is accepted and not used. State: four float32 copies of the parameters, three
      rows and three columns for each tensor (for a vector, three more copies and three numbers) and a step counter.

    Raises:
      ValueError: if hidden_sizes is empty or contains anything but positive whole numbers, or if newton_schulz_steps is
        negative.

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
    network = networks.per_parameter_mlp(hidden_sizes, num_outputs=1)

    def init(key):
        return factored_features.init_network(network, key, extended=True)

    def rule(theta, horizon):
        del horizon

        def update(grad, param, slots, step):
            if param.ndim < 2 and vector_step_multiplier is not None:
                direction, slots = _adam(grad, slots, step)
                return -step_size * vector_step_multiplier * direction, slots
            observed, mean_squares, slots = factored_features.observe(
                grad, param, slots, DECAYS, extended=True, epsilon=EPSILON
            )
            scales = factored_features.normalizers(mean_squares)

            def direction_of(observed):
                inputs = factored_features.inputs(observed, extended=True)
                return factored_features.apply_network(network, theta, inputs, scales)[0]

            direction = networks.in_blocks(direction_of, observed, max(hidden_sizes))
            if newton_schulz_steps and param.ndim > 1:
                direction = _orthogonalize(direction, newton_schulz_steps)
            return -step_size * direction * jax.lax.rsqrt(1e-12 + features.mean_square(direction)), slots

        return per_tensor(factored_moments.SLOTS, update)

    spec = {
        "kind": "celo2",
        "feature_version": FEATURE_VERSION,
        "hidden_sizes": list(hidden_sizes),
        "step_size": step_size,
        "vector_step_multiplier": vector_step_multiplier,
        "newton_schulz_steps": newton_schulz_steps,
    }
    return define(spec, init, rule)


def _adam(grad, slots, step):
    """Returns Adam's direction from the slots with decays .9 and .95, and the new slots. The others do not change."""
    first, *others = slots.momenta
    (momentum,) = features.momenta(grad, (first,), (MOMENTUM_DECAY,))
    moment = features.second_moment(grad, slots.moment, RMS_DECAY)
    corrected = momentum / (1.0 - MOMENTUM_DECAY ** (step + 1.0))
    root = jnp.sqrt(moment / (1.0 - RMS_DECAY ** (step + 1.0)))
    return corrected / (root + EPSILON), slots._replace(momenta=(momentum, *others), moment=moment)


def _orthogonalize(direction, num_iterations):
    """Moves the singular values of a matrix towards 1. The whole matrix is one block, as in the paper."""
    wide, restore = orthogonal.as_wide(direction)
    wide = wide * jax.lax.rsqrt(1e-12 + features.mean_square(wide)) / math.sqrt(wide.size)
    return restore(orthogonal.newton_schulz(wide @ wide.T, num_iterations) @ wide)
