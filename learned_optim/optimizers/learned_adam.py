"""Learned Adam: Adam whose four hyperparameters are the meta-parameters.

The baseline of Metz, Harrison, Freeman, Merchant, Beyer, Bradbury, Agrawal, Poole, Mordatch, Roberts, Sohl-Dickstein
2022, "Practical tradeoffs between memory, compute, and performance in learned optimizers",
https://arxiv.org/abs/2203.11860.

With `epsilon_root=1e-8` updates equal those of the authors' released code, which adds 1e-8 to v̂ before it takes the
root. By default nothing is added, as in `optax.adam`. Deviations, which keep values finite in float32:
- Gradients are clipped to ±1e15, and the bias-corrected second moment is at least 1e-36.
- Decays are clipped to [0, 1 - 1e-7].
"""

import jax.numpy as jnp

from learned_optim import checks
from learned_optim import hyperparameters
from learned_optim.base import LearnedOptimizer
from learned_optim.base import define
from learned_optim.base import per_tensor

FEATURE_VERSION = 1


def learned_adam(
    initial_learning_rate: float = 1e-3,
    *,
    initial_b1: float = 0.9,
    initial_b2: float = 0.999,
    initial_epsilon: float = 1e-8,
    epsilon_root: float = 0.0,
) -> LearnedOptimizer:
    r"""Builds Adam with a learned learning rate, learned decays and a learned epsilon.

    .. math::
      \Delta p = -e^{\lambda} \frac{\hat m}{\sqrt{\hat v + \epsilon_r} + e^{\kappa}}, \qquad \beta_i = 1 - e^{\nu_i}

    m̂ and v̂ are the bias-corrected moving averages of g and g², with decays β₁ and β₂.

    Args:
      initial_learning_rate: exp(λ) before meta-training.
      initial_b1: β₁ before meta-training.
      initial_b2: β₂ before meta-training.
      initial_epsilon: exp(κ) before meta-training.
      epsilon_root: ε_r, added to v̂, not learned. 1e-8 in the authors' released code.

    Returns:
      A `LearnedOptimizer`. Its theta is λ under "log_learning_rate", ν₁ and ν₂ under "log_one_minus_b1" and
      "log_one_minus_b2", and κ under "log_epsilon", four scalars; `init` ignores its key. `num_steps` is accepted and
      not used. State: two copies of the parameters and a step counter. At the same hyperparameters it equals
      `optax.adam` (with `eps_root`).

    Raises:
      ValueError: if the rate or epsilon is not positive and finite, a decay not in [0, 1), or epsilon_root negative.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> optimizer = learned_adam()
      >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)))
      >>> params = jnp.ones(2)
      >>> updates, state = tx.update(jnp.array([0.5, -4.0]), tx.init(params), params)
      >>> print(f"{updates[0]:.4f} {updates[1]:.4f}")
      -0.0010 0.0010

    References:
      Kingma and Ba 2015, https://arxiv.org/abs/1412.6980
      Metz et al. 2022, https://arxiv.org/abs/2203.11860
    """
    initial_learning_rate = hyperparameters.positive("initial_learning_rate", initial_learning_rate)
    initial_b1 = hyperparameters.decay("initial_b1", initial_b1)
    initial_b2 = hyperparameters.decay("initial_b2", initial_b2)
    initial_epsilon = hyperparameters.positive("initial_epsilon", initial_epsilon)
    epsilon_root = checks.real_number("epsilon_root", epsilon_root)
    if epsilon_root < 0.0:
        raise ValueError(f"epsilon_root must be at least 0, such as 1e-8, got {epsilon_root!r}.")

    def init(key):
        del key
        rate = hyperparameters.logs({"learning_rate": initial_learning_rate})
        return {**rate, **hyperparameters.adam_logs(initial_b1, initial_b2, initial_epsilon)}

    def rule(theta, horizon):
        del horizon

        def update(grad, param, slots, step):
            del param
            direction, slots = hyperparameters.adam_direction(theta, grad, slots, step, epsilon_root=epsilon_root)
            return -jnp.exp(theta["log_learning_rate"]) * direction, slots

        return per_tensor(hyperparameters.ADAM_SLOTS, update)

    spec = {
        "kind": "learned_adam",
        "feature_version": FEATURE_VERSION,
        "initial_learning_rate": initial_learning_rate,
        "initial_b1": initial_b1,
        "initial_b2": initial_b2,
        "initial_epsilon": initial_epsilon,
    }
    if epsilon_root:  # left out otherwise, so that older versions can load the file
        spec["epsilon_root"] = epsilon_root
    return define(spec, init, rule)
