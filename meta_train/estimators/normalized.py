"""Estimates divided by a power of their norm, so that no task dominates an average because of its scale.

The outer step averages the gradients of all tasks. A task whose normalized loss changes by whole units then outweighs
a task whose loss changes by a twentieth, though both improvements may be worth as much. Dividing each
gradient by its norm is normalized gradient descent (Hazan, Levy, Shalev-Shwartz 2015, "Beyond Convexity: Stochastic
Quasi-Convex Optimization", https://arxiv.org/abs/1507.02030), for each task by itself.
"""

import jax
import jax.numpy as jnp
import optax

from meta_train.estimators.base import Estimator


def normalized(estimator: Estimator, power: float = 1.0) -> Estimator:
    """Divides an estimator's gradient by a power of its norm.

    Where the estimate is mostly noise, as with evolution strategies on a few pairs, its norm measures the scale of the
    task's loss differences, and little else. With a power of 1 all tasks have the same weight. But a task whose
    differences are pure noise then adds as much noise as any other, so a power between 0 and 1 is often better.
    A single window that diverged cannot outweigh the others. The expectation is no longer that of the gradient.

    Args:
      estimator: any estimator that gives a gradient.
      power: exponent of the norm in the divisor. The new norm is the old one to the power `1 - power`.

    Returns:
      An `Estimator`. A gradient of zero stays zero. `Info` is that of the estimate as it was, without the variances of
      its coordinates: nothing may be inferred from those of a rescaled estimate, see `inverse_variance`.

    Raises:
      ValueError: if power does not lie between 0 and 1.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from meta_train import Problem, estimators, truncation
      >>> problem = Problem(
      ...     init=lambda key, theta, num_steps: jnp.ones(()),
      ...     step=lambda key, theta, state, data: (state, 1e3 * theta * state),
      ... )
      >>> estimator = normalized(estimators.truncated_backprop(
      ...     problem, num_particles=1, unroll_length=2, horizon=truncation.constant(2)))
      >>> state = estimator.init(jax.random.key(0), jnp.zeros(()))
      >>> gradient, state, info = jax.jit(estimator.estimate)(jax.random.key(1), jnp.zeros(()), state, estimator.data)
      >>> print(f"{gradient:.3f}")
      1.000
    """
    if not 0 <= power <= 1:
        raise ValueError(f"power must lie between 0 and 1, got {power}: 0 leaves gradients alone, 1 makes them units.")

    def estimate(key, theta, state, data, axis_name=None):
        gradient, state, info = estimator.estimate(key, theta, state, data, axis_name=axis_name)
        norm = optax.tree.norm(gradient)
        factor = jnp.where(norm > 0, norm, 1.0) ** -power
        gradient = jax.tree.map(lambda g: g * factor.astype(g.dtype), gradient)
        return gradient, state, info._replace(coordinate_variances=())

    return estimator._replace(estimate=estimate)
