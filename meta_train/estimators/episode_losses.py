"""Losses of whole episodes without a gradient: all that a search needs to know about a candidate."""

import jax

from meta_train.estimators.base import Estimator
from meta_train.estimators.base import check_particles
from meta_train.estimators.base import mean_over_particles
from meta_train.unroll import episodes
from meta_train.unroll.capabilities import require_steps
from meta_train.unroll.problem import Problem
from meta_train.unroll.truncation import Horizon


def episode_losses(problem: Problem, *, num_particles: int, horizon: Horizon) -> Estimator:
    """Builds an `Estimator` of the mean loss per inner step of whole episodes, for a search: its gradient is None.

    `search.episodes` is the same function. Each outer step draws new episodes, the same ones for all candidates.
    Nothing needs to be differentiable, and memory does not depend on the horizon.

    Args:
      problem: what to evaluate theta on.
      num_particles: episodes, whose losses are averaged.
      horizon: distribution of episode lengths.

    Raises:
      ValueError: if num_particles is below 1.
      TypeError: if the problem is a `Bilevel`.

    Example: the mean of (theta * step) over 4 steps is 2.5 theta.
      >>> import jax, jax.numpy as jnp
      >>> from meta_train import Problem, truncation
      >>> problem = Problem(
      ...     init=lambda key, theta, num_steps: jnp.zeros(()),
      ...     step=lambda key, theta, state, data: (state + theta, state + theta),
      ... )
      >>> estimator = episode_losses(problem, num_particles=1, horizon=truncation.constant(4))
      >>> theta = jnp.ones(())
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> _, state, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
      >>> float(info.loss)
      2.5
    """
    check_particles(num_particles)
    require_steps(problem, "episode_losses")

    def run(key, theta, state, data):
        num_steps, episode_key, _ = episodes.begin(key, state, horizon)
        mean, _ = episodes.mean_loss(problem, episode_key, theta, num_steps, horizon.high, data)
        return mean, num_steps

    def estimate(key, theta, state, data, axis_name=None):
        losses, lengths = jax.vmap(lambda state: run(key, theta, state, data))(state)
        _, info, _ = mean_over_particles((), losses, lengths, axis_name)
        return None, episodes.following(state), info

    init = lambda key, theta: episodes.start(horizon, num_particles)
    return Estimator(init, estimate, problem.data, num_particles, problem.name)
