"""Learned SGD: gradient descent whose learning rate is the only meta-parameter.

The baseline of Metz, Harrison, Freeman, Merchant, Beyer, Bradbury, Agrawal, Poole, Mordatch, Roberts, Sohl-Dickstein
2022, "Practical tradeoffs between memory, compute, and performance in learned optimizers",
https://arxiv.org/abs/2203.11860, and of the authors' released code.

Deviations: none in the update rule, whose updates equal those of that code. The initial rate is 0.1 (released code
0.01).
"""

import jax.numpy as jnp

from learned_optim import hyperparameters
from learned_optim.base import LearnedOptimizer
from learned_optim.base import define
from learned_optim.base import per_tensor

FEATURE_VERSION = 1


def learned_sgd(initial_learning_rate: float = 0.1) -> LearnedOptimizer:
    r"""Builds SGD with a learned learning rate.

    .. math:: \Delta p = -e^{\lambda} g

    Args:
      initial_learning_rate: exp(λ) before meta-training.

    Returns:
      A `LearnedOptimizer`. Its theta is the scalar λ under "log_learning_rate"; `init` ignores its key. `num_steps` is
      accepted and not used. State: a step counter. At the same rate it equals `optax.sgd`.

    Raises:
      ValueError: if the rate is not positive and finite.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> optimizer = learned_sgd(0.5)
      >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)))
      >>> params = jnp.ones(2)
      >>> updates, state = tx.update(jnp.array([1.0, -4.0]), tx.init(params), params)
      >>> updates.tolist()
      [-0.5, 2.0]

    References:
      Metz et al. 2022, https://arxiv.org/abs/2203.11860
    """
    initial_learning_rate = hyperparameters.positive("initial_learning_rate", initial_learning_rate)

    def init(key):
        del key
        return hyperparameters.logs({"learning_rate": initial_learning_rate})

    def rule(theta, horizon):
        del horizon

        def update(grad, param, slots, step):
            del param, step
            return -jnp.exp(theta["log_learning_rate"]) * grad, slots

        return per_tensor((), update)

    spec = {
        "kind": "learned_sgd",
        "feature_version": FEATURE_VERSION,
        "initial_learning_rate": initial_learning_rate,
    }
    return define(spec, init, rule)
