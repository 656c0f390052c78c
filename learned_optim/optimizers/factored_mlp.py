"""Factored MLP: a tiny network maps momenta and Adafactor's row and column second moments to the step.

Metz, Harrison, Freeman, Merchant, Beyer, Bradbury, Agrawal, Poole, Mordatch, Roberts, Sohl-Dickstein 2022,
"Practical tradeoffs between memory, compute, and performance in learned optimizers" (adafac_mlp),
https://arxiv.org/abs/2203.11860

Features, their order and all epsilons are those of the authors' released code, and so are the updates: they were
compared for tensors of all ranks, gradients from 1e-4 to 1, and the weights' layout of ELO and μLO. Deviations:
- Second moments, r and c are at most 1e30, so that they stay finite in float32. The released code returns NaN for
  gradients of 1e20.
- Momentum decays are clipped to [0, 1]. The released code clips only the other decays.
- The released code adds 1e-30 to squared gradients. This has no effect beside its other epsilons and is left out.
- The 11 time features, which all coordinates share, enter the first layer as a bias, and the normalizing factors of
  the others multiply its weights. The function computed is the same.

The option `mup` is the parametrization of Thérien, Joseph, Knyazev, Oyallon, Rish, Belilovsky 2024, "μLO:
Compute-Efficient Meta-Generalization of Learned Optimizers", https://arxiv.org/abs/2406.00153: updates of hidden
weights are multiplied by 1 / fan_in. The optimizer's network is the one above, without a layer that is initially zero,
as in the authors' released code. Deviations:
- In the released code the update is divided by the width over the width of the base model, not by fan_in. The ratio is
  a constant of each tensor; docs/optimizers.md shows how to divide by multiples of the width.
- In the released code the model tells which weights are hidden. A transformation sees only shapes, so here every tensor
  with two dimensions or more is treated as hidden, and fan_in is the product of all its dimensions but the last. For
  the weights of an input layer, whose fan_in is not a width, this is a constant factor and does not affect how updates
  scale with width. For those of an output layer it is the rule of Yang et al. 2022 (table 3,
  https://arxiv.org/abs/2203.03466) for models that do not multiply their output by 1 / fan_in themselves.
"""

from collections.abc import Sequence
import math

import jax.numpy as jnp

from learned_optim import checks
from learned_optim import factored_features
from learned_optim import factored_moments
from learned_optim import features
from learned_optim import networks
from learned_optim.base import LearnedOptimizer
from learned_optim.base import define
from learned_optim.base import per_tensor

FEATURE_VERSION = 1


def factored_mlp(
    hidden_sizes: Sequence[int] = (4, 4),
    *,
    step_multiplier: float = 1e-3,
    magnitude_multiplier: float = 1e-3,
    mup: bool = False,
) -> LearnedOptimizer:
    r"""Builds the per-parameter MLP optimizer with factored second moments and 39 input features.

    .. math:: \Delta p = -\lambda_1 \, d \, e^{\lambda_2 a}, \qquad (d, a) = \mathrm{MLP}(f)

    With m the three momenta of the gradient g (decays .9, .99, .999), v the moving average of g² (.999), r and c
    those of its mean over the rows and columns of the two largest dimensions (.9, .99, .999), and
    F(x) = x / √(r / mean r) / √c, the inputs f of a coordinate of value p are g, p, m, v, m/√v, 1/√v, F(g), r, c,
    1/√r, 1/√c, F(m), each divided by its root mean square over the tensor, and `tanh(t / s - 1)` for s = 1, 3, 10, …,
    1e5 steps. Tensors with fewer than two dimensions have moving averages of g² instead of r and c, and F(x) = x/√v.

    Args:
      hidden_sizes: widths of the hidden ReLU layers. The paper's network is (4, 4).
      step_multiplier: scale of the direction output, in units of the parameters.
      magnitude_multiplier: scale of the log step size output.
      mup: whether updates of tensors of two dimensions or more are multiplied by 1 / fan_in, the product of all
        dimensions but the last, so that one theta suits models of every width. Meta-train with the same setting, and
        with a larger step_multiplier (1e-2 in the μLO paper's code, with hidden layers of 32), on models initialized in
        the maximal update parametrization. The structure of theta does not depend on mup. If embeddings, input or
        output layers should not be scaled, pass a transformation with and one without mup to `optax.multi_transform`.

    Returns:
      A `LearnedOptimizer`. Its theta holds the network's weights and, under "decays", an offset δ for each decay β,
      which becomes `1 - exp(10 * (log(1 - β) / 10 + δ))`, clipped to [0, 1]. `num_steps` is accepted and not used: no
      feature depends on the horizon. State: four float32 copies of the parameters, three rows and three columns for
      each tensor (for a vector, three more copies and three numbers) and a step counter.

    Raises:
      ValueError: if hidden_sizes is empty or contains anything but positive whole numbers.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> optimizer = factored_mlp()
      >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)))
      >>> params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
      >>> updates, state = tx.update(params, tx.init(params), params)
      >>> params = optax.apply_updates(params, updates)

    References:
      Metz et al. 2022, https://arxiv.org/abs/2203.11860
      Shazeer and Stern 2018 (Adafactor), https://arxiv.org/abs/1804.04235
      Thérien et al. 2024 (the option mup), https://arxiv.org/abs/2406.00153
    """
    hidden_sizes = checks.sizes(hidden_sizes)
    step_multiplier = checks.real_number("step_multiplier", step_multiplier)
    magnitude_multiplier = checks.real_number("magnitude_multiplier", magnitude_multiplier)
    mup = checks.flag("mup", mup)
    network = networks.per_parameter_mlp(hidden_sizes, num_outputs=2)

    def init(key):
        weights = factored_features.init_network(network, key, num_shared=len(features.TIME_SCALES))
        return {"decays": factored_moments.decay_offsets(), **weights}

    def rule(theta, horizon):
        del horizon
        weights = {name: layer for name, layer in theta.items() if name != "decays"}
        decays = factored_moments.moved_decays(theta["decays"])

        def update(grad, param, slots, step):
            observed, mean_squares, slots = factored_features.observe(grad, param, slots, decays)
            scales = factored_features.normalizers(mean_squares)
            scale = step_multiplier / _fan_in(grad.shape) if mup else step_multiplier

            def step_of(observed):
                inputs = factored_features.inputs(observed)
                direction, magnitude = factored_features.apply_network(
                    network, weights, inputs, scales, features.tanh_time(step)
                )
                return -scale * direction * jnp.exp(magnitude_multiplier * magnitude)

            return networks.in_blocks(step_of, observed, max(hidden_sizes)), slots

        return per_tensor(factored_moments.SLOTS, update)

    spec = {
        "kind": "factored_mlp",
        "feature_version": FEATURE_VERSION,
        "hidden_sizes": list(hidden_sizes),
        "step_multiplier": step_multiplier,
        "magnitude_multiplier": magnitude_multiplier,
    }
    if mup:  # left out otherwise, so that older versions can load the file
        spec["mup"] = True
    return define(spec, init, rule)


def _fan_in(shape):
    """The product of all dimensions but the last, 1 for vectors and scalars."""
    return math.prod(shape[:-1]) if len(shape) > 1 else 1
