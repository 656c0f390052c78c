"""An estimator whose gradient is set to zero: the run reports its task's loss and does not train on it."""

import jax
import jax.numpy as jnp

from meta_train.estimators.base import Estimator


def watched(estimator: Estimator) -> Estimator:
    """Makes an estimator's gradient zero, so that its task is validated on and not trained on.

    The metrics of the run hold its loss, and `safeguards.safeguarded` can return to the theta where it was best. The
    outer step averages gradients over all estimators, watched ones included. An outer optimizer that is not invariant
    to the gradient's scale therefore makes smaller steps.

    Args:
      estimator: any estimator; `episode_losses` is the cheapest.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from meta_train import Problem, estimators, truncation
      >>> problem = Problem(
      ...     init=lambda key, theta, num_steps: jnp.ones(()),
      ...     step=lambda key, theta, state, data: (state, theta * state),
      ... )
      >>> estimator = watched(estimators.truncated_backprop(
      ...     problem, num_particles=1, unroll_length=2, horizon=truncation.constant(2)))
      >>> theta = jnp.asarray(3.0)
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> gradient, state, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
      >>> print(gradient, info.loss)
      0.0 3.0
    """

    def estimate(key, theta, state, data, axis_name=None):
        _, state, info = estimator.estimate(key, theta, state, data, axis_name=axis_name)
        return jax.tree.map(jnp.zeros_like, theta), state, info

    return estimator._replace(estimate=estimate)
