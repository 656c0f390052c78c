"""Learned schedule: Adam whose hyperparameters and learning-rate schedule are the meta-parameters.

Learned schedules go back to Maclaurin, Duvenaud, Adams 2015, "Gradient-based hyperparameter optimization through
reversible learning", https://arxiv.org/abs/1502.03492, where every step has its own rate. Schedules with learned
hyperparameters are baselines of Metz et al. 2022, "Practical tradeoffs between memory, compute, and performance in
learned optimizers", https://arxiv.org/abs/2203.11860.

Deviations:
- The schedule is a function of progress instead of the step, so that one theta serves runs of any length. It is
  piecewise linear with a few knots, so that it has few weights. Neither paper prescribes such a form.
- Values are bounded as in `learned_adam`.
"""

import jax.numpy as jnp
import numpy as np

from learned_optim import checks
from learned_optim import hyperparameters
from learned_optim.base import LearnedOptimizer
from learned_optim.base import define
from learned_optim.base import per_tensor

FEATURE_VERSION = 1


def learned_schedule(
    num_knots: int = 8,
    *,
    initial_learning_rate: float = 1e-3,
    initial_b1: float = 0.9,
    initial_b2: float = 0.999,
    initial_epsilon: float = 1e-8,
) -> LearnedOptimizer:
    r"""Builds Adam with learned hyperparameters and a learned schedule of the learning rate.

    .. math:: \Delta p = -e^{\lambda + s(t / T)} \frac{\hat m}{\sqrt{\hat v} + e^{\kappa}}

    T is num_steps. s is linear between `num_knots` knots, which are evenly spaced from progress 0 to 1. After T
    steps it keeps the value of the last knot. Everything else is as in `learned_adam`.

    Args:
      num_knots: number of knots of the schedule.
      initial_learning_rate: exp(λ) before meta-training.
      initial_b1: β₁ before meta-training.
      initial_b2: β₂ before meta-training.
      initial_epsilon: exp(κ) before meta-training.

    Returns:
      A `LearnedOptimizer`. Its theta is that of `learned_adam`, the values of s at the knots under "log_knots" and,
      under "log_constant", the number that replaces s if `num_steps` is not known. Before meta-training all of these
      are 0, so the rate is constant. `init` ignores its key. State: two copies of the parameters and a step counter.

    Raises:
      ValueError: if num_knots is below 2, the rate or epsilon not positive and finite, or a decay not in [0, 1).
      TypeError: if num_knots is not a whole number.

    Example: a linear fall of the log rate over 10 steps.
      >>> import jax, jax.numpy as jnp
      >>> optimizer = learned_schedule(num_knots=2)
      >>> theta = optimizer.init(jax.random.key(0)) | {"log_knots": jnp.array([0.0, -10.0])}
      >>> tx = optimizer.transform(theta, num_steps=10)
      >>> params = jnp.ones(2)
      >>> first, state = tx.update(params, tx.init(params), params)
      >>> second, state = tx.update(params, state, params)
      >>> print(f"{first[0]:.6f} {second[0]:.6f}")
      -0.001000 -0.000368

    References:
      Maclaurin et al. 2015, https://arxiv.org/abs/1502.03492
      Kingma and Ba 2015, https://arxiv.org/abs/1412.6980
      Metz et al. 2022, https://arxiv.org/abs/2203.11860
    """
    num_knots = checks.whole_number(
        "num_knots", num_knots, 2, "The first and the last knot are the ends of the schedule."
    )
    initial_learning_rate = hyperparameters.positive("initial_learning_rate", initial_learning_rate)
    initial_b1 = hyperparameters.decay("initial_b1", initial_b1)
    initial_b2 = hyperparameters.decay("initial_b2", initial_b2)
    initial_epsilon = hyperparameters.positive("initial_epsilon", initial_epsilon)

    def init(key):
        del key
        return {
            **hyperparameters.logs({"learning_rate": initial_learning_rate, "constant": 1.0}),
            **hyperparameters.adam_logs(initial_b1, initial_b2, initial_epsilon),
            "log_knots": jnp.zeros((num_knots,), jnp.float32),
        }

    def rule(theta, horizon):
        def update(grad, param, slots, step):
            del param
            interpolated = _interpolated(theta["log_knots"], step, horizon)
            schedule = jnp.where(horizon >= 1.0, interpolated, theta["log_constant"])
            direction, slots = hyperparameters.adam_direction(theta, grad, slots, step)
            return -jnp.exp(theta["log_learning_rate"] + schedule) * direction, slots

        return per_tensor(hyperparameters.ADAM_SLOTS, update)

    spec = {
        "kind": "learned_schedule",
        "feature_version": FEATURE_VERSION,
        "num_knots": num_knots,
        "initial_learning_rate": initial_learning_rate,
        "initial_b1": initial_b1,
        "initial_b2": initial_b2,
        "initial_epsilon": initial_epsilon,
    }
    return define(spec, init, rule)


def _interpolated(knots, step, horizon):
    """Returns the value at progress step / horizon of a piecewise linear function with evenly spaced knots."""
    last = knots.shape[0] - 1
    position = jnp.minimum(step / jnp.maximum(horizon, 1.0), 1.0) * float(last)
    weights = jnp.maximum(1.0 - jnp.abs(position - np.arange(last + 1, dtype=np.float32)), 0.0)
    return jnp.sum(weights * knots)
