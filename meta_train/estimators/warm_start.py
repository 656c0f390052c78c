"""Inner parameters that are kept from outer step to outer step: the part shared by estimators that do not unroll."""

from typing import Any
from typing import NamedTuple
from typing import Protocol

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
from meta_train.unroll.units import UnitsFn
from meta_train.unroll.units import in_units


class HypergradientFn(Protocol):
    """Estimates the gradient of the outer loss at given inner parameters."""

    def __call__(
        self, bilevel: Bilevel, key: jax.Array, theta: Any, params: Any, data: Any, /
    ) -> tuple[jax.Array, Any]:
        """Estimates it.

        Args:
          bilevel: the losses.
          key: random key of the estimate.
          theta: meta-parameters.
          params: the inner parameters.
          data: `Bilevel.data`, or what `Bilevel.sample` drew from it.

        Returns:
          `(loss, gradient)`: the outer loss, and its gradient with the structure of theta.
        """
        ...


class WarmStartState(NamedTuple):
    """State of the particles."""

    index: jax.Array  # int32[particles], number of the particle, part of its random keys
    inner: UnrolledState  # inner parameters and their optimizer's state, leaves [particles, …]


def warm_start(
    problem: Problem | Bilevel,
    hypergradient: HypergradientFn,
    name: str,
    *,
    inner_optimizer: optax.GradientTransformation,
    inner_steps: int,
    num_particles: int,
    fresh_start: bool = False,
    units: UnitsFn | None = None,
) -> Estimator:
    """Builds an estimator that trains the inner parameters on and asks for the gradient where they stand.

    Args:
      problem: a `Bilevel`, or a problem that declares one. If it samples, each particle draws an episode's data anew
        in each outer step.
      hypergradient: `(bilevel, key, theta, params, data) -> (outer loss, gradient)` at the inner parameters.
      name: the estimator's name, for errors.
      inner_optimizer: an optax transformation with final updates; it gets the inner loss as `value=`.
      inner_steps: its updates in each outer step, from where the last outer step left the inner parameters.
      num_particles: inner parameters that are trained side by side, each from a first draw of its own.
      fresh_start: whether each outer step begins with `bilevel.init(key, theta)` in place of where the last one ended.
      units: the inner optimizer works on the inner parameters divided by these units; None: by 1.

    Raises:
      ValueError: if the problem declares no `Bilevel`, or num_particles or inner_steps is out of range; from `init`,
        if the inner loss does not see theta.
    """
    bilevel = require_bilevel(problem, name)
    check_particles(num_particles)
    if inner_steps < 0:
        raise ValueError(f"inner_steps must not be negative, got {inner_steps}.")

    def optimizer(theta, params):
        return inner_optimizer if units is None else in_units(inner_optimizer, units(theta, params))

    def begin(key, theta):
        params = bilevel.init(key, theta)
        return UnrolledState(params, optimizer(theta, params).init(params))

    def init(key, theta):
        check_theta_matters(bilevel, theta, name)
        index = jnp.arange(num_particles, dtype=jnp.int32)
        return WarmStartState(index, jax.vmap(lambda i: begin(jax.random.fold_in(key, i), theta))(index))

    def estimate(key, theta, state, data, axis_name=None):
        def particle(index, inner):
            particle_key, drawn = episode_data.draw(jax.random.fold_in(key, index), bilevel.sample, data)
            reset_key, inner_key, outer_key = jax.random.split(particle_key, 3)
            fresh = begin(reset_key, theta)
            tx = optimizer(theta, inner.params)
            update = lambda inner, key: (inner_update(bilevel, tx, key, theta, inner, drawn), None)
            inner, _ = jax.lax.scan(update, fresh if fresh_start else inner, jax.random.split(inner_key, inner_steps))
            loss, gradient = hypergradient(bilevel, outer_key, theta, inner.params, drawn)
            return gradient, loss, inner, fresh

        gradients, losses, inner, fresh = jax.vmap(particle)(*state)
        gradient, info, keep = mean_over_particles(gradients, losses, inner_steps, axis_name)
        select = lambda new, old: jnp.where(jnp.expand_dims(keep, range(1, old.ndim)), old, new)
        return gradient, WarmStartState(state.index, jax.tree.map(select, fresh, inner)), info

    return Estimator(init, estimate, bilevel.data, num_particles, bilevel.name)
