r"""Warped gradients: meta-parameters that make single steps of descent good, wherever adaptation passes.

Flennerhag et al. 2020, "Meta-Learning with Warped Gradient Descent", https://arxiv.org/abs/1909.00025

Theta holds layers between those that adaptation moves. It stands still meanwhile, so it acts on adaptation as a
preconditioner: with y = T W x, a step of gradient descent on W moves T W by T T' times the gradient. The meta-objective
looks at points of past trajectories, kept in a buffer, and differentiates one step from each of them, never a
trajectory. So memory and time do not grow with the length of adaptation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from meta_train.estimators.base import Estimator
from meta_train.estimators.base import check_particles
from meta_train.estimators.base import mean_over_particles
from meta_train.problems.unrolled import UnrolledState
from meta_train.problems.unrolled import inner_update
from meta_train.unroll import episode_data
from meta_train.unroll.capabilities import check_theta_matters
from meta_train.unroll.capabilities import require_bilevel
from meta_train.unroll.problem import Bilevel
from meta_train.unroll.problem import Problem


class Point(NamedTuple):
    """A point of a trajectory."""

    inner: UnrolledState  # the inner parameters and their optimizer's state
    episode_key: jax.Array  # key[], of the episode's first parameters and data
    step: jax.Array  # int32[], inner steps made in the episode before it


class WarpGradState(NamedTuple):
    """State of the particles."""

    index: jax.Array  # int32[particles], number of the particle, part of its random keys
    current: Point  # where adaptation stands, leaves [particles, …]
    buffer: Point  # points of past trajectories, leaves [particles, buffer_size, …]
    added: jax.Array  # int32[particles], points put into the buffer so far


def warp_grad(
    problem: Problem | Bilevel,
    *,
    inner_optimizer: optax.GradientTransformation,
    num_steps: int,
    num_points: int,
    buffer_size: int,
    inner_steps: int | None = None,
    num_particles: int = 1,
) -> Estimator:
    r"""Builds the estimator of the gradient of the outer loss after one step from points of past trajectories.

    .. math:: \hat g = \frac{d}{d\theta} \; \mathrm{mean}_{w \in \mathrm{buffer}} \;
              L_V(w - \alpha \nabla_w L(w, \theta), \theta)

    The points are constants, except for the first of each trajectory: where `bilevel.init` depends on theta, it is
    taken anew, so that the initial parameters are learned by the same objective.

    Args:
      problem: a `Bilevel`, or a problem that declares one. Theta must enter the inner loss.
      inner_optimizer: an optax transformation with final updates; it gets the inner loss as `value=`.
      num_steps: inner steps of an episode.
      num_points: points drawn from the buffer in each outer step, by each particle.
      buffer_size: points that a particle keeps; a new one takes the place of the oldest.
      inner_steps: inner steps in each outer step. None runs a whole episode.
      num_particles: adaptations side by side, each with a buffer of its own, whose gradients are averaged.

    Returns:
      An `Estimator`. `info.loss` is the mean outer loss after one step from the points, `info.inner_steps` counts the
      steps of the adaptations. A particle whose loss is not finite empties its buffer and begins a new episode.

    Raises:
      ValueError: if the problem declares no `Bilevel`, a number is out of range, or num_steps is not a multiple of
        inner_steps; from `init`, if the inner loss does not see theta.

    Example: y = t w with the target 1. A step of 1/2 from w = 0 leads to y = t^2 / 2, and the loss (y - 1)^2 / 2 has
    the derivative (t^2 / 2 - 1) t = -1/2 at t = 1.
      >>> from meta_train import Bilevel
      >>> loss = lambda w, t, key, data: 0.5 * (t * w - 1) ** 2
      >>> bilevel = Bilevel(loss, loss, init=lambda key, t: jnp.zeros(()))
      >>> estimator = warp_grad(bilevel, inner_optimizer=optax.sgd(0.5), num_steps=1, num_points=4, buffer_size=4)
      >>> theta = jnp.ones(())
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> gradient, state, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
      >>> float(gradient)
      -0.5

    References:
      Flennerhag et al. 2020, https://arxiv.org/abs/1909.00025
    """
    bilevel = require_bilevel(problem, "warp_grad")
    check_particles(num_particles)
    inner_steps = num_steps if inner_steps is None else inner_steps
    _check(num_steps, inner_steps, num_points, buffer_size)

    def begin(episode_key, theta):
        params = bilevel.init(jax.random.split(episode_key)[0], theta)
        return Point(UnrolledState(params, inner_optimizer.init(params)), episode_key, jnp.zeros((), jnp.int32))

    def data_of(episode_key, data):
        return episode_data.draw(jax.random.split(episode_key)[1], bilevel.sample, data)[1]

    def init(key, theta):
        check_theta_matters(bilevel, theta, "warp_grad")

        def particle(index):
            current = begin(jax.random.fold_in(key, index), theta)
            buffer = jax.tree.map(lambda x: jnp.broadcast_to(x, (buffer_size, *jnp.shape(x))), current)
            return WarpGradState(index, current, buffer, jnp.zeros((), jnp.int32))

        return jax.vmap(particle)(jnp.arange(num_particles, dtype=jnp.int32))

    def adapt(key, theta, current, data):
        """Makes inner_steps steps; returns the next point and those passed, with a leading axis."""
        drawn = data_of(current.episode_key, data)

        def step(point, key):
            inner = inner_update(bilevel, inner_optimizer, key, theta, point.inner, drawn)
            return Point(inner, point.episode_key, point.step + 1), point

        return jax.lax.scan(step, current, jax.random.split(key, inner_steps))

    def loss_after_step(theta, key, point, data):
        inner_key, outer_key = jax.random.split(key)
        drawn = data_of(point.episode_key, data)
        fresh = begin(point.episode_key, theta)
        inner = jax.tree.map(lambda new, old: jnp.where(point.step == 0, new, old), fresh.inner, point.inner)
        inner = inner_update(bilevel, inner_optimizer, inner_key, theta, inner, drawn)
        return bilevel.outer_loss(inner.params, theta, outer_key, drawn)

    def particle_estimate(key, theta, state, data):
        next_key, inner_key, choice_key, loss_key = jax.random.split(jax.random.fold_in(key, state.index), 4)
        fresh = begin(next_key, theta)
        current = _select(state.current.step >= num_steps, fresh, state.current)
        current, passed = adapt(inner_key, theta, current, data)
        places = (state.added + jnp.arange(inner_steps, dtype=jnp.int32)) % buffer_size
        buffer = jax.tree.map(lambda kept, new: kept.at[places].set(new), state.buffer, passed)
        added = state.added + inner_steps
        chosen = jax.random.randint(choice_key, (num_points,), 0, jnp.minimum(added, buffer_size))
        points = jax.tree.map(lambda x: x[chosen], buffer)

        def mean_loss(theta):
            one = lambda key, point: loss_after_step(theta, key, point, data)
            return jnp.mean(jax.vmap(one)(jax.random.split(loss_key, num_points), points))

        loss, gradient = jax.value_and_grad(mean_loss)(theta)
        return gradient, loss, WarpGradState(state.index, current, buffer, added), fresh

    def estimate(key, theta, state, data, axis_name=None):
        gradients, losses, state, fresh = jax.vmap(lambda state: particle_estimate(key, theta, state, data))(state)
        gradient, info, keep = mean_over_particles(gradients, losses, inner_steps, axis_name)
        current = jax.vmap(_select)(keep, state.current, fresh)
        return gradient, state._replace(current=current, added=jnp.where(keep, state.added, 0)), info

    return Estimator(init, estimate, bilevel.data, num_particles, bilevel.name)


def _select(wanted, new, old):
    return jax.tree.map(lambda new, old: jnp.where(wanted, new, old), new, old)


def _check(num_steps, inner_steps, num_points, buffer_size):
    for name, value in (("num_steps", num_steps), ("inner_steps", inner_steps), ("num_points", num_points)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    if num_steps % inner_steps:
        raise ValueError(
            f"num_steps, an episode's length, must be a multiple of inner_steps, got {num_steps} and {inner_steps}."
        )
    if buffer_size < inner_steps:
        raise ValueError(f"buffer_size must be at least inner_steps, {inner_steps}, got {buffer_size}.")
