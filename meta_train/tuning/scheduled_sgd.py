"""SGD with schedules of learning rate, momentum and weight decay, in the form of a learned optimizer.

The steps are those of `problems.hyperparameters`, and of `optax.sgd` after `optax.add_decayed_weights`.
"""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_optim import LearnedOptimizer
from meta_train.problems.hyperparameters import at_step
from meta_train.problems.hyperparameters import hyper_theta

KIND = "scheduled_sgd"


class ScheduledState(NamedTuple):
    """State of the transformation."""

    count: jax.Array  # int32[], steps made
    velocity: Any  # like params


def scheduled_sgd(num_blocks: int) -> LearnedOptimizer:
    """Builds the optimizer.

    Args:
      num_blocks: how many values each schedule has; a block is a share of the steps.

    Returns:
      A `LearnedOptimizer` whose theta is a `problems.HyperTheta`. Its transformation needs `params` and `num_steps`,
      and knows no other arguments. It is no architecture of the library: its theta has no file format.

    Example:
      >>> optimizer = scheduled_sgd(2)
      >>> tx = optimizer.transform(hyper_theta(learning_rate=0.5, num_blocks=2), num_steps=4)
      >>> params = jnp.ones(())
      >>> updates, state = tx.update(jnp.ones(()), tx.init(params), params)
      >>> round(float(updates), 3)
      -0.5
    """

    def transform(theta, *, num_steps=None, **rest):
        del rest

        def init(params):
            return ScheduledState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

        def update(updates, state, params=None, **extra):
            del extra
            if params is None:
                raise ValueError("scheduled_sgd needs params, for the weight decay: call update(grads, state, params).")
            if num_steps is None:
                raise ValueError("scheduled_sgd needs num_steps: its schedules are over shares of the steps.")
            now = at_step(theta, state.count, num_steps)

            def move(grad, velocity, param):
                rate, momentum, decay = (x.astype(param.dtype) for x in now)
                velocity = momentum * velocity + grad.astype(param.dtype) + decay * param
                return -rate * velocity, velocity

            moved = jax.tree.map(move, updates, state.velocity, params)
            updates, velocity = jax.tree.transpose(jax.tree.structure(params), jax.tree.structure((0, 0)), moved)
            return updates, ScheduledState(state.count + 1, velocity)

        return optax.GradientTransformationExtraArgs(init, update)

    def init(key):
        del key
        return hyper_theta(learning_rate=0.01, num_blocks=num_blocks)

    return LearnedOptimizer(init, transform, {"kind": KIND, "num_blocks": num_blocks})
