"""Forward-mode differentiation of whole episodes: the exact gradient, in memory that does not grow with the horizon.

Franceschi, Donini, Frasconi, Pontil 2017, "Forward and Reverse Gradient-Based Hyperparameter Optimization",
https://arxiv.org/abs/1703.01785

Deviations: tangents are carried through whole episodes, and theta is fixed meanwhile. Carrying them on from window to
window instead (real-time recurrent learning) would keep a tangent of the state for every weight of every particle
between outer steps, and mix derivatives at different theta.
"""

import jax
import jax.numpy as jnp

from meta_train.estimators.base import Estimator
from meta_train.estimators.base import check_particles
from meta_train.estimators.base import mean_over_particles
from meta_train.unroll import episodes
from meta_train.unroll import perturbations
from meta_train.unroll.capabilities import require_steps
from meta_train.unroll.problem import Problem
from meta_train.unroll.truncation import Horizon


def forward_mode(problem: Problem, *, num_particles: int, horizon: Horizon, block_size: int = 32) -> Estimator:
    r"""Builds the estimator that differentiates the mean loss of whole episodes by a tangent for each weight of theta.

    .. math:: \hat g_j = \frac{1}{N} \sum_{i=1}^{N} \frac{1}{T_i} \sum_{t=1}^{T_i} \frac{d L_{i,t}}{d \theta_j}

    It gives what `full_backprop` gives, to rounding, with the same draws. Time is proportional to the number of
    weights, so it is meant for few of them: learning rates, schedules.

    Args:
      problem: a problem whose step and init are differentiable in theta.
      num_particles: independent episodes, whose gradients are averaged.
      horizon: distribution of episode lengths T. An outer step takes as long as the longest that it draws.
      block_size: weights whose tangents travel together. Memory is that of 1 + block_size states for each particle, and
        the losses by step; every block runs the episode again.

    Returns:
      An `Estimator`. `info.inner_steps` counts an episode once, whatever the number of blocks.

    Raises:
      ValueError: if num_particles or block_size is out of range.

    Example: the gradient of the mean of (theta * step) over 4 steps is 2.5.
      >>> import jax, jax.numpy as jnp
      >>> from meta_train import Problem, truncation
      >>> problem = Problem(
      ...     init=lambda key, theta, num_steps: jnp.zeros(()),
      ...     step=lambda key, theta, state, data: (state + theta, state + theta),
      ... )
      >>> estimator = forward_mode(problem, num_particles=1, horizon=truncation.constant(4))
      >>> theta = jnp.zeros(())
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> gradient, state, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
      >>> float(gradient)
      2.5

    References:
      Franceschi et al. 2017, https://arxiv.org/abs/1703.01785
    """
    require_steps(problem, "forward_mode")
    check_particles(num_particles)
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}.")

    def estimate(key, theta, state, data, axis_name=None):
        flat, unravel = perturbations.ravel(theta)
        width = min(block_size, flat.size)
        num_blocks = -(-flat.size // width)

        def particle(state):
            num_steps, episode_key, _ = episodes.begin(key, state, horizon)

            def mean_loss(flat):
                return episodes.mean_loss(problem, episode_key, unravel(flat), num_steps, horizon.high, data)

            def block(first):
                # Past the last weight the tangents are zero.
                tangents = jax.nn.one_hot(first + jnp.arange(width, dtype=jnp.int32), flat.size, dtype=flat.dtype)
                push = lambda tangent: jax.jvp(mean_loss, (flat,), (tangent,), has_aux=True)
                return jax.vmap(push, out_axes=(None, 0, None))(tangents)

            means, slopes, losses = jax.lax.map(block, width * jnp.arange(num_blocks, dtype=jnp.int32))
            return unravel(slopes.ravel()[: flat.size]), means[0], losses[0], num_steps

        gradients, means, losses, lengths = jax.vmap(particle)(state)
        gradient, info, _ = mean_over_particles(gradients, means, lengths, axis_name, losses)
        return gradient, episodes.following(state), info

    init = lambda key, theta: episodes.start(horizon, num_particles)
    return Estimator(init, estimate, problem.data, num_particles, problem.name)
