"""Per-parameter MLP: a small network maps the gradient, value and momenta of each coordinate to its step.

Metz, Harrison, Freeman, Merchant, Beyer, Bradbury, Agrawal, Poole, Mordatch, Roberts, Sohl-Dickstein 2022,
"Practical tradeoffs between memory, compute, and performance in learned optimizers" (small_fc),
https://arxiv.org/abs/2203.11860

Updates equal those of the authors' released code for tensors of all ranks. Deviations: none known. The 11 time
features, which all coordinates share, enter the first layer as a bias instead of being copied to every coordinate, and
the normalizing factors of the others multiply its weights. The function computed is the same.
"""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_optim import checks
from learned_optim import features
from learned_optim import networks
from learned_optim.base import LearnedOptimizer
from learned_optim.base import define
from learned_optim.base import momentum
from learned_optim.base import per_tensor

FEATURE_VERSION = 1
DECAYS = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)


class Slots(NamedTuple):
    """State of a coordinate."""

    momenta: tuple[Any, ...]  # moving averages of the gradient, one for each decay


def mlp(
    hidden_sizes: Sequence[int] = (32, 32),
    *,
    step_multiplier: float = 1e-3,
    magnitude_multiplier: float = 1e-3,
) -> LearnedOptimizer:
    r"""Builds the per-parameter MLP optimizer with 19 input features.

    .. math:: \Delta p = -\lambda_1 \, d \, e^{\lambda_2 a}, \qquad (d, a) = \mathrm{MLP}(f)

    The inputs f of a coordinate are its gradient, its value and six momenta (decays .1, .5, .9, .99, .999, .9999),
    each divided by its root mean square over the tensor, and `tanh(t / s - 1)` for s = 1, 3, 10, …, 1e5 steps.

    Args:
      hidden_sizes: widths of the hidden ReLU layers. The paper's network is (32, 32).
      step_multiplier: scale of the direction output, in units of the parameters.
      magnitude_multiplier: scale of the log step size output.

    Returns:
      A `LearnedOptimizer`. `num_steps` is accepted and not used: no feature depends on the horizon. State: six
      float32 copies of the parameters and a step counter.

    Raises:
      ValueError: if hidden_sizes is empty or contains anything but positive whole numbers.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> optimizer = mlp(hidden_sizes=(4,))
      >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)))
      >>> params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
      >>> updates, state = tx.update(params, tx.init(params), params)
      >>> params = optax.apply_updates(params, updates)

    References:
      Metz et al. 2022, https://arxiv.org/abs/2203.11860
    """
    hidden_sizes = checks.sizes(hidden_sizes)
    step_multiplier = checks.real_number("step_multiplier", step_multiplier)
    magnitude_multiplier = checks.real_number("magnitude_multiplier", magnitude_multiplier)
    network = networks.per_parameter_mlp(hidden_sizes, num_outputs=2)

    def init(key):
        num_features, num_shared = 2 + len(DECAYS), len(features.TIME_SCALES)
        inputs = [jnp.zeros((), jnp.float32)] * num_features
        return network.init(key, inputs, jnp.ones((num_features,), jnp.float32), jnp.zeros((num_shared,), jnp.float32))

    def rule(theta, horizon):
        del horizon

        def update(grad, param, slots, step):
            momenta = features.momenta(grad, slots.momenta, DECAYS)
            inputs = (grad, param, *momenta)
            scales = jax.lax.rsqrt(1e-5 + jnp.stack([features.mean_square(x) for x in inputs]))

            def step_of(inputs):
                direction, magnitude = network.apply(theta, inputs, scales, features.tanh_time(step))
                return -step_multiplier * direction * jnp.exp(magnitude_multiplier * magnitude)

            return networks.in_blocks(step_of, inputs, max(hidden_sizes)), Slots(momenta)

        return per_tensor(Slots((momentum,) * len(DECAYS)), update)

    spec = {
        "kind": "mlp",
        "feature_version": FEATURE_VERSION,
        "hidden_sizes": list(hidden_sizes),
        "step_multiplier": step_multiplier,
        "magnitude_multiplier": magnitude_multiplier,
    }
    return define(spec, init, rule)
