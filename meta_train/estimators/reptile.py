"""Reptile: move initial parameters towards where adaptation ends, without a derivative through adaptation.

Nichol, Achiam, Schulman 2018, "On First-Order Meta-Learning Algorithms", https://arxiv.org/abs/1803.02999
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from meta_train.estimators.base import Estimator
from meta_train.estimators.base import check_particles
from meta_train.estimators.base import mean_over_particles
from meta_train.problems.unrolled import UnrolledState
from meta_train.problems.unrolled import inner_update
from meta_train.unroll import episode_data
from meta_train.unroll.capabilities import require_bilevel
from meta_train.unroll.problem import Bilevel
from meta_train.unroll.problem import Problem


def reptile(
    problem: Problem | Bilevel,
    *,
    inner_optimizer: optax.GradientTransformation,
    inner_steps: int,
    num_particles: int,
) -> Estimator:
    r"""Builds the Reptile estimator.

    .. math:: \hat g = \theta - \frac{1}{N} \sum_{i=1}^N \phi_i

    for the parameters :math:`\phi_i` that `inner_steps` steps on the inner loss reach from theta in N episodes. It is
    the gradient of no loss, but to first order in the steps' size its mean is that of the sum of inner losses on the
    way, and beyond that favors parameters where the gradients of an episode's minibatches agree. Outer steps
    `optax.sgd(rate)` move theta by that share of the way; `fit` needs `clip_norm=None` for it.

    Where theta is more than the initial parameters, the estimate is :math:`\phi_0 - \phi` pulled back through
    `bilevel.init`, and zero for all that `init` does not see.

    Args:
      problem: a `Bilevel`, or a problem that declares one, such as `problems.initial_parameters`. If it samples, each
        particle draws an episode's data anew in each outer step.
      inner_optimizer: an optax transformation with final updates, for the inner parameters.
      inner_steps: its updates in an episode.
      num_particles: episodes, whose ends are averaged.

    Returns:
      An `Estimator`. `info.loss` is the outer loss at the ends, `info.inner_steps` counts the updates of the inner
      parameters.

    Raises:
      ValueError: if the problem declares no `Bilevel`, or num_particles or inner_steps is below 1.

    Example: one step of rate 1/4 on (w - 1)^2 from 0 ends at 1/2.
      >>> loss = lambda w, theta, key, data: (w - 1) ** 2
      >>> bilevel = Bilevel(inner_loss=loss, outer_loss=loss, init=lambda key, theta: theta)
      >>> estimator = reptile(bilevel, inner_optimizer=optax.sgd(0.25), inner_steps=1, num_particles=1)
      >>> theta = jnp.zeros(())
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> gradient, state, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
      >>> float(gradient), float(info.loss)
      (-0.5, 0.25)

    References:
      Nichol et al. 2018, https://arxiv.org/abs/1803.02999
    """
    bilevel = require_bilevel(problem, "reptile")
    check_particles(num_particles)
    if inner_steps < 1:
        raise ValueError(f"inner_steps must be at least 1, got {inner_steps}.")

    def init(key, theta):
        del key, theta
        return jnp.arange(num_particles, dtype=jnp.int32)  # the particle's number, part of its random keys

    def estimate(key, theta, state, data, axis_name=None):
        def particle(index: jax.Array) -> tuple[Any, jax.Array]:
            episode_key, drawn = episode_data.draw(jax.random.fold_in(key, index), bilevel.sample, data)
            init_key, inner_key, outer_key = jax.random.split(episode_key, 3)
            start, pull_back = jax.vjp(lambda theta: bilevel.init(init_key, theta), theta)
            update = lambda inner, key: (inner_update(bilevel, inner_optimizer, key, theta, inner, drawn), None)
            inner = UnrolledState(start, inner_optimizer.init(start))
            inner, _ = jax.lax.scan(update, inner, jax.random.split(inner_key, inner_steps))
            (gradient,) = pull_back(jax.tree.map(jnp.subtract, start, inner.params))
            return gradient, bilevel.outer_loss(inner.params, theta, outer_key, drawn)

        gradients, losses = jax.vmap(particle)(state)
        gradient, info, _ = mean_over_particles(gradients, losses, inner_steps, axis_name)
        return gradient, state, info

    return Estimator(init, estimate, bilevel.data, num_particles, bilevel.name)
