"""STAR: an Adam-like nominal step, a preconditioned step from a tiny network, and weight decay.

Harrison, Metz, Sohl-Dickstein 2022, "A Closer Look at Learned Optimization: Stability, Robustness, and Inductive
Biases", https://arxiv.org/abs/2209.11208

Updates equal those of the authors' released code with a controlled nominal step, whose variants are options. Updates of
both were compared for tensors of all ranks and gradients from 1e-4 to 1. Deviations:
- We could not confirm the paper's values of the three multipliers, and the released code leaves them to its user (its
  defaults are 0 for the nominal step and the decay, 1e-3 for the network). Here they are 1e-3, 1e-5 and 1e-6. Because
  1 / √(v + 1e-6) is at most 1e3, the network's step is initially no larger than the nominal one, whatever the scale of
  the gradients.
- The released code can also average magnitudes over a tensor, or take plain gradients or momenta as its nominal
  direction. These options are off there by default, and left out here.
- Momenta and second moments are bounded as in `factored_mlp`, so that they stay finite.
"""

from collections.abc import Sequence

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


def star(
    hidden_sizes: Sequence[int] = (4, 4),
    *,
    nominal_step: float = 1e-3,
    step_multiplier: float = 1e-6,
    magnitude_multiplier: float = 1e-3,
    weight_decay: float = 1e-5,
    mean_momentum: bool = True,
    precondition: bool = True,
    controlled_decay: bool = False,
) -> LearnedOptimizer:
    r"""Builds the STAR optimizer.

    .. math::
      \Delta p = -\frac{1}{\sqrt{v}} \left( \alpha \, e^{\lambda_2 b} \, \bar m + \lambda_1 d \, e^{\lambda_2 a} \right)
      - \omega p, \qquad (d, a, b) = \mathrm{MLP}(f)

    m̄ is the mean of three momenta of the gradient (decays .9, .99, .999), v the moving average of g² (.999) plus 1e-6,
    and f are the inputs of `factored_mlp`.

    Args:
      hidden_sizes: widths of the hidden ReLU layers. The released network is (4, 4).
      nominal_step: α, the step size of the nominal term.
      step_multiplier: λ₁, scale of the direction output before it is divided by √v.
      magnitude_multiplier: λ₂, scale of the log step size outputs.
      weight_decay: ω, the fraction of its value that a parameter loses at each step. The argument of the same name of
        `transform` is added to it.
      mean_momentum: whether m̄ is the mean of the three momenta. If not, it is the slowest (.999), as in Adam.
      precondition: whether the network's direction d is divided by √v, as the nominal direction is.
      controlled_decay: whether the network has a fourth output c, and the decay is ω exp(λ₂ c).

    Returns:
      A `LearnedOptimizer`. Its theta holds the network's weights and, under "decays", an offset for each decay as in
      `factored_mlp`. `num_steps` is accepted and not used. State: that of `factored_mlp`.

    Raises:
      ValueError: if hidden_sizes is empty or contains anything but positive whole numbers.
      TypeError: if a flag is not a bool.

    Example: if the network's output is zero, all gradients are 1 and there is no decay, the first step is that of Adam
    without bias correction, averaged over three momenta.
      >>> import jax, jax.numpy as jnp
      >>> optimizer = star(weight_decay=0.0)
      >>> tx = optimizer.transform(jax.tree.map(jnp.zeros_like, optimizer.init(jax.random.key(0))))
      >>> params = jnp.ones(2)
      >>> updates, state = tx.update(params, tx.init(params), params)
      >>> print(f"{updates[0]:.6f} {-1e-3 * (0.1 + 0.01 + 0.001) / 3 / (1e-3 + 1e-6)**0.5:.6f}")
      -0.001169 -0.001169

    References:
      Harrison et al. 2022, https://arxiv.org/abs/2209.11208
      Metz et al. 2022 (the features), https://arxiv.org/abs/2203.11860
    """
    hidden_sizes = checks.sizes(hidden_sizes)
    nominal_step = checks.real_number("nominal_step", nominal_step)
    step_multiplier = checks.real_number("step_multiplier", step_multiplier)
    magnitude_multiplier = checks.real_number("magnitude_multiplier", magnitude_multiplier)
    weight_decay = checks.real_number("weight_decay", weight_decay)
    mean_momentum = checks.flag("mean_momentum", mean_momentum)
    precondition = checks.flag("precondition", precondition)
    controlled_decay = checks.flag("controlled_decay", controlled_decay)
    network = networks.per_parameter_mlp(hidden_sizes, num_outputs=4 if controlled_decay else 3)

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

            def step_of(observed):
                inputs = factored_features.inputs(observed)
                direction, magnitude, nominal_magnitude, *others = factored_features.apply_network(
                    network, weights, inputs, scales, features.tanh_time(step)
                )
                momentum = sum(inputs.adam) if mean_momentum else 3.0 * inputs.adam[-1]
                nominal = (nominal_step / 3.0) * jnp.exp(magnitude_multiplier * nominal_magnitude) * momentum
                learned = step_multiplier * direction * jnp.exp(magnitude_multiplier * magnitude)
                learned = learned * observed.rsqrt if precondition else learned
                decay = weight_decay * jnp.exp(magnitude_multiplier * others[0]) if others else weight_decay
                return -(nominal + learned + decay * observed.param)

            return networks.in_blocks(step_of, observed, max(hidden_sizes)), slots

        return per_tensor(factored_moments.SLOTS, update)

    spec = {
        "kind": "star",
        "feature_version": FEATURE_VERSION,
        "hidden_sizes": list(hidden_sizes),
        "nominal_step": nominal_step,
        "step_multiplier": step_multiplier,
        "magnitude_multiplier": magnitude_multiplier,
        "weight_decay": weight_decay,
    }
    flags = ("mean_momentum", mean_momentum, True), ("precondition", precondition, True)
    for name, value, default in (*flags, ("controlled_decay", controlled_decay, False)):
        if value != default:  # left out otherwise, so that older versions can load the file
            spec[name] = value
    return define(spec, init, rule)
