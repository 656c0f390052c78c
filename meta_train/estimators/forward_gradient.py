"""Forward gradients: the exact derivative of a whole episode in a random direction, times the direction.

Baydin, Pearlmutter, Syme, Wood, Torr 2022, "Gradients without Backpropagation", https://arxiv.org/abs/2202.08587

Deviations: the function is a whole episode, and every particle draws a direction of its own.
"""

import jax

from meta_train.estimators import antithetic
from meta_train.estimators.base import Estimator
from meta_train.estimators.base import check_particles
from meta_train.estimators.base import mean_over_particles
from meta_train.unroll import episodes
from meta_train.unroll.capabilities import require_steps
from meta_train.unroll.perturbations import perturbation
from meta_train.unroll.problem import Problem
from meta_train.unroll.truncation import Horizon


def forward_gradient(problem: Problem, *, num_particles: int, horizon: Horizon) -> Estimator:
    r"""Builds the estimator from directional derivatives of whole episodes.

    .. math:: \hat g = \frac{1}{N} \sum_{i=1}^{N} v_i \,
        \Bigl(v_i^\top \nabla_\theta \frac{1}{T_i} \sum_{t=1}^{T_i} L_{i,t}\Bigr), \quad v_i \sim \mathcal N(0, I)

    It is unbiased for the gradient of the loss itself, not of a smoothed one: the limit of `full_es` as its std goes to
    zero, at the cost of one tangent instead of a second run. On D weights a particle's estimate has the variance
    :math:`(D + 1) \lVert \nabla L \rVert^2`, summed over the weights.

    Args:
      problem: a problem whose step and init are differentiable in theta.
      num_particles: episodes N, each with a direction. Memory is linear in it, and independent of the horizon but for
        the losses.
      horizon: distribution of episode lengths T. An outer step takes as long as the longest that it draws.

    Returns:
      An `Estimator`.

    Raises:
      ValueError: if num_particles is out of range.

    Example: the gradient of the mean of (theta * step) over 4 steps is 2.5.
      >>> import jax, jax.numpy as jnp
      >>> from meta_train import Problem, truncation
      >>> problem = Problem(
      ...     init=lambda key, theta, num_steps: jnp.zeros(()),
      ...     step=lambda key, theta, state, data: (state + theta, state + theta),
      ... )
      >>> estimator = forward_gradient(problem, num_particles=40_000, horizon=truncation.constant(4))
      >>> theta = jnp.zeros(())
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> gradient, state, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
      >>> bool(abs(gradient - 2.5) < 0.1)
      True

    References:
      Baydin et al. 2022, https://arxiv.org/abs/2202.08587
    """
    require_steps(problem, "forward_gradient")
    check_particles(num_particles)

    def estimate(key, theta, state, data, axis_name=None):
        def particle(state):
            num_steps, episode_key, direction_key = episodes.begin(key, state, horizon)
            direction = perturbation(direction_key, theta, 1.0)

            def mean_loss(theta):
                return episodes.mean_loss(problem, episode_key, theta, num_steps, horizon.high, data)

            mean, slope, losses = jax.jvp(mean_loss, (theta,), (direction,), has_aux=True)
            return direction, slope, mean, losses, num_steps

        directions, slopes, means, losses, lengths = jax.vmap(particle)(state)
        gradients = antithetic.weigh(directions, slopes)
        gradient, info, _ = mean_over_particles(gradients, means, lengths, axis_name, losses)
        return gradient, episodes.following(state), info

    init = lambda key, theta: episodes.start(horizon, num_particles)
    return Estimator(init, estimate, problem.data, num_particles, problem.name)
