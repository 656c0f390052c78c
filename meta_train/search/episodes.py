"""Losses of whole episodes without a gradient: what a search needs to know of a candidate."""

import jax
import jax.numpy as jnp

from meta_train.estimators.base import Estimator
from meta_train.estimators.base import check_particles
from meta_train.estimators.base import mean_over_particles
from meta_train.problem import Problem
from meta_train.truncation import Horizon


def episodes(problem: Problem, *, num_particles: int, horizon: Horizon) -> Estimator:
    """Builds an `Estimator` of the mean loss per inner step of whole episodes, for a search: its gradient is None.

    Each outer step draws new episodes, the same ones for all candidates. Nothing needs to be differentiable, and
    memory does not depend on the horizon.

    Args:
      problem: what to evaluate theta on.
      num_particles: episodes, whose losses are averaged.
      horizon: distribution of episode lengths.

    Raises:
      ValueError: if num_particles is below 1.

    Example: the mean of (theta * step) over 4 steps is 2.5 theta.
      >>> import jax, jax.numpy as jnp
      >>> from meta_train import Problem, truncation
      >>> problem = Problem(
      ...     init=lambda key, theta, num_steps: jnp.zeros(()),
      ...     step=lambda key, theta, state, data: (state + theta, state + theta),
      ... )
      >>> estimator = episodes(problem, num_particles=1, horizon=truncation.constant(4))
      >>> theta = jnp.ones(())
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> _, state, info = estimator.estimate(jax.random.key(1), theta, state, estimator.data)
      >>> float(info.loss)
      2.5
    """
    check_particles(num_particles)

    def init(key, theta):
        del key, theta
        return jnp.arange(num_particles, dtype=jnp.int32)  # the particle's number, part of its random keys

    def estimate(key, theta, state, data, axis_name=None):
        def particle(index):
            horizon_key, init_key, step_key = jax.random.split(jax.random.fold_in(key, index), 3)
            num_steps = horizon.sample(horizon_key)
            inner = problem.init(init_key, theta, num_steps)
            dtype = jax.eval_shape(problem.step, step_key, theta, inner, data)[1].dtype

            def step(i, carry):
                inner, total = carry
                inner, loss = problem.step(jax.random.fold_in(step_key, i), theta, inner, data)
                return inner, total + loss

            _, total = jax.lax.fori_loop(0, num_steps, step, (inner, jnp.zeros((), dtype)))
            return total / num_steps.astype(dtype), num_steps

        losses, lengths = jax.vmap(particle)(state)
        _, info, _ = mean_over_particles((), losses, 0, axis_name)
        steps = jnp.sum(lengths, dtype=jnp.int32)
        steps = steps if axis_name is None else jax.lax.psum(steps, axis_name)
        return None, state, info._replace(inner_steps=steps)

    return Estimator(init, estimate, problem.data, num_particles, problem.name)
