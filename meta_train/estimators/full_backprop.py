"""Backpropagation through whole episodes: the exact gradient, in memory that grows with the root of the horizon.

The episode is cut into about √T segments. Only the states between segments are kept on the way forward; the way back
runs each segment again and keeps the steps of that one.

Chen, Xu, Zhang, Guestrin 2016, "Training Deep Nets with Sublinear Memory Cost", https://arxiv.org/abs/1604.06174
"""

import jax

from meta_train.estimators.base import Estimator
from meta_train.estimators.base import check_particles
from meta_train.estimators.base import mean_over_particles
from meta_train.unroll import episodes
from meta_train.unroll.capabilities import require_steps
from meta_train.unroll.problem import Problem
from meta_train.unroll.truncation import Horizon


def full_backprop(problem: Problem, *, num_particles: int, horizon: Horizon, rematerialize: bool = True) -> Estimator:
    r"""Builds the estimator that differentiates the mean loss of whole episodes in reverse mode.

    .. math:: \hat g = \frac{1}{N} \sum_{i=1}^{N} \frac{d}{d\theta} \frac{1}{T_i} \sum_{t=1}^{T_i} L_{i,t}

    It has no bias and no noise beyond that of the episodes. Where long episodes are chaotic, the exact gradient may
    explode; then a smoothed one (`pes`, `full_es`) is the better guide.

    Args:
      problem: a problem whose step and init are differentiable in theta.
      num_particles: independent episodes, whose gradients are averaged.
      horizon: distribution of episode lengths T. Memory and time are those of `horizon.high`, whatever it draws.
      rematerialize: whether to run the steps twice to keep the memory of about 2 √T steps instead of T.

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
      >>> estimator = full_backprop(problem, num_particles=1, horizon=truncation.constant(4))
      >>> theta = jnp.zeros(())
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> gradient, state, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
      >>> float(gradient)
      2.5

    References:
      Chen et al. 2016, https://arxiv.org/abs/1604.06174
    """
    require_steps(problem, "full_backprop")
    check_particles(num_particles)

    def mean_loss(theta, key, num_steps, data):
        """The mean loss of an episode, and float[horizon.high] losses, NaN from num_steps on."""
        init_key, step_key = episodes.split(key)
        total, _, losses = episodes.run_differentiably(
            lambda time, state: problem.step(step_key(time), theta, state, data),
            problem.init(init_key, theta, num_steps),
            0,
            num_steps,
            horizon.high,
            rematerialize=rematerialize,
        )
        return total / num_steps.astype(total.dtype), losses[: horizon.high]

    def estimate(key, theta, state, data, axis_name=None):
        def particle(state):
            num_steps, episode_key, _ = episodes.begin(key, state, horizon)
            (mean, losses), gradient = jax.value_and_grad(mean_loss, has_aux=True)(theta, episode_key, num_steps, data)
            return gradient, mean, losses, num_steps

        gradients, means, losses, lengths = jax.vmap(particle)(state)
        gradient, info, _ = mean_over_particles(gradients, means, lengths, axis_name, losses)
        return gradient, episodes.following(state), info

    init = lambda key, theta: episodes.start(horizon, num_particles)
    return Estimator(init, estimate, problem.data, num_particles, problem.name)
