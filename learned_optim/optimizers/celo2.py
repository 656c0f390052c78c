"""Celo2: a per-parameter network gives the direction only, normalised per tensor; step size and schedule are apart.

Moudgil, Knyazev, Belilovsky 2026, "Celo2: Towards Learned Optimization Free Lunch",
https://arxiv.org/abs/2602.19142

Deviations:
- Which parameters Adam updates is decided by shape: those with fewer than two dimensions. The authors give embeddings
  to Adam as well, which a shape cannot tell: use `optax.multi_transform` for that.
- The decays of the moving averages are fixed, and the direction is orthogonalised before it is normalised; we could not
  confirm either from the paper.
- Second moments are bounded, so that gradients of any scale give finite updates (`features.second_moment`).
"""

from collections.abc import Sequence
import math

import jax
import jax.numpy as jnp

from learned_optim import checks
from learned_optim import factored_features
from learned_optim import features
from learned_optim import networks
from learned_optim import orthogonal
from learned_optim.base import LearnedOptimizer
from learned_optim.base import define
from learned_optim.base import per_tensor

FEATURE_VERSION = 1
DECAYS = factored_features.Decays(rms=(0.95,))
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
    g/√v, each divided by its root mean square over the tensor. There are no time features: the user gives a schedule,
    as `step_scale=` of `transform` or in `optax.chain`.

    Args:
      hidden_sizes: widths of the hidden ReLU layers. The paper's network is (8, 8).
      step_size: root mean square of the updates, in units of the parameters; 1e-3 in meta-training.
      vector_step_multiplier: tensors with fewer than two dimensions are updated by Adam (decays .9 and .95) with this
        many times `step_size`. None: by the network, like the others (the paper's Celo2-base).
      newton_schulz_steps: iterations that orthogonalise the direction of matrices before it is normalised; the paper's
        Celo2 does this. Tensors with more dimensions count as matrices of their last dimension. 0: none, 5 is usual.

    Returns:
      A `LearnedOptimizer`. `num_steps` is accepted and not used. State: four float32 copies of the parameters, three
      rows and three columns of each tensor (of a vector, three more copies and three numbers) and a step counter.

    Raises:
      ValueError: if hidden_sizes is empty or holds anything but whole numbers from 1 on, or newton_schulz_steps is
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
        return factored_features.init_extended(network, key)

    def rule(theta, horizon):
        del horizon

        def update(grad, param, slots, step):
            if param.ndim < 2 and vector_step_multiplier is not None:
                direction, slots = _adam(grad, slots, step)
                return -step_size * vector_step_multiplier * direction, slots
            observed, mean_squares, slots = factored_features.observe(
                grad, param, slots, DECAYS, extended=True, epsilon=EPSILON
            )
            scales = jax.lax.rsqrt(1e-5 + mean_squares)

            def direction_of(observed):
                inputs = factored_features.inputs(observed, extended=True)
                return network.apply(theta, inputs, scales, jnp.zeros((0,), jnp.float32))[0]

            direction = networks.in_blocks(direction_of, observed, max(hidden_sizes))
            if newton_schulz_steps and param.ndim > 1:
                direction = _orthogonalize(direction, newton_schulz_steps)
            return -step_size * direction * jax.lax.rsqrt(1e-12 + features.mean_square(direction)), slots

        return per_tensor(factored_features.SLOTS, update)

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
    """Adam's direction by the slots of decays .9 and .95. The other slots stay as they are."""
    first, *others = slots.momenta
    (momentum,) = features.momenta(grad, (first,), DECAYS.momentum[:1])
    moment = features.second_moment(grad, slots.moment, DECAYS.rms[0])
    corrected = momentum / (1.0 - DECAYS.momentum[0] ** (step + 1.0))
    root = jnp.sqrt(moment / (1.0 - DECAYS.rms[0] ** (step + 1.0)))
    return corrected / (root + EPSILON), slots._replace(momenta=(momentum, *others), moment=moment)


def _orthogonalize(direction, num_steps):
    """Brings the singular values of a matrix near 1."""
    wide, restore = orthogonal.as_wide(direction)
    wide = wide * jax.lax.rsqrt(1e-12 + features.mean_square(wide)) / math.sqrt(wide.size)
    return restore(orthogonal.newton_schulz(wide @ wide.T, num_steps) @ wide)
