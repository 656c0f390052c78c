"""Learned momentum: gradient descent with momentum whose two hyperparameters are the meta-parameters.

The baseline of Metz, Harrison, Freeman, Merchant, Beyer, Bradbury, Agrawal, Poole, Mordatch, Roberts, Sohl-Dickstein
2022, "Practical tradeoffs between memory, compute, and performance in learned optimizers",
https://arxiv.org/abs/2203.11860, and of the authors' released code.

Deviations:
- The initial rate is 0.1 (released code 0.01), as in `learned_sgd`.
- The momentum is clipped to [0, 1 - 1e-7], so that the trace is a decaying sum.
"""

from typing import Any
from typing import NamedTuple

import jax.numpy as jnp

from learned_optim import hyperparameters
from learned_optim.base import LearnedOptimizer
from learned_optim.base import define
from learned_optim.base import momentum
from learned_optim.base import per_tensor

FEATURE_VERSION = 1


class Slots(NamedTuple):
    """State of a coordinate."""

    trace: Any  # the sum of all gradients so far, each multiplied by momentum ** (its age in steps)


def learned_momentum(initial_learning_rate: float = 0.1, initial_momentum: float = 0.9) -> LearnedOptimizer:
    r"""Builds SGD with momentum, with a learned learning rate and a learned momentum.

    .. math:: u_t = \mu u_{t-1} + g_t, \qquad \Delta p = -e^{\lambda} u_t, \qquad \mu = 1 - e^{\nu}

    Args:
      initial_learning_rate: exp(λ) before meta-training.
      initial_momentum: μ before meta-training.

    Returns:
      A `LearnedOptimizer`. Its theta is λ under "log_learning_rate" and ν under "log_one_minus_momentum", two scalars;
      `init` ignores its key. `num_steps` is accepted and not used. State: one copy of the parameters and a step
      counter. At the same hyperparameters it equals `optax.sgd(…, momentum=…)`.

    Raises:
      ValueError: if the rate is not positive and finite, or the momentum not in [0, 1).

    Example: the second step along the same gradient is 1.9 times the first.
      >>> import jax, jax.numpy as jnp
      >>> optimizer = learned_momentum()
      >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)))
      >>> params = jnp.ones(2)
      >>> first, state = tx.update(params, tx.init(params), params)
      >>> second, state = tx.update(params, state, params)
      >>> print(f"{first[0]:.4f} {second[0]:.4f}")
      -0.1000 -0.1900

    References:
      Metz et al. 2022, https://arxiv.org/abs/2203.11860
    """
    initial_learning_rate = hyperparameters.positive("initial_learning_rate", initial_learning_rate)
    initial_momentum = hyperparameters.decay("initial_momentum", initial_momentum)

    def init(key):
        del key
        return hyperparameters.logs(
            {"learning_rate": initial_learning_rate, "one_minus_momentum": 1.0 - initial_momentum}
        )

    def rule(theta, horizon):
        del horizon
        decay = 1.0 - hyperparameters.mixing(theta["log_one_minus_momentum"])

        def update(grad, param, slots, step):
            del param, step
            trace = grad + decay * slots.trace
            return -jnp.exp(theta["log_learning_rate"]) * trace, Slots(trace)

        return per_tensor(Slots(momentum), update)

    spec = {
        "kind": "learned_momentum",
        "feature_version": FEATURE_VERSION,
        "initial_learning_rate": initial_learning_rate,
        "initial_momentum": initial_momentum,
    }
    return define(spec, init, rule)
