"""A `Bilevel` unrolled by SGD with momentum, whose steps can be run backwards."""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from meta_train.unroll.episode_data import keep_episode
from meta_train.unroll.problem import Bilevel
from meta_train.unroll.problem import Momentum
from meta_train.unroll.problem import Problem
from meta_train.unroll.problem import RatesFn


class MomentumState(NamedTuple):
    """State of an inner minimization."""

    step: jax.Array  # int32[], steps made
    params: Any  # the inner parameters
    velocity: Any  # like params


def momentum_descent(bilevel: Bilevel, rates: RatesFn) -> Problem:
    r"""Builds the problem of minimizing the inner loss by

    .. math:: v \leftarrow \gamma_t v - (1 - \gamma_t) \nabla L(w, \theta), \qquad w \leftarrow w + \alpha_t v

    from v = 0.

    Args:
      bilevel: the losses.
      rates: `(theta, step) -> (learning_rate, decay)`, alpha and gamma at int32[] step 0, 1, ….

    Returns:
      A `Problem` that declares `momentum`, for the estimator `reversible`; all unrolled estimators work on it too. Its
      loss at a step is the outer loss of the parameters after it.

    Example: theta holds a learning rate for each step.
      >>> square = lambda w, theta, key, data: w**2
      >>> bilevel = Bilevel(inner_loss=square, outer_loss=square, init=lambda key, theta: 1.0)
      >>> problem = momentum_descent(bilevel, lambda theta, step: (theta[step], 0.5))
      >>> state = problem.init(jax.random.key(0), jnp.array([0.5]), 1)
      >>> state, loss = problem.step(jax.random.key(1), jnp.array([0.5]), state, problem.data)
      >>> float(loss)
      0.25
    """

    def init(key, theta, num_steps):
        del num_steps
        params = bilevel.init(key, theta)
        return MomentumState(jnp.zeros((), jnp.int32), params, jax.tree.map(jnp.zeros_like, params))

    def step(key, theta, state, data):
        inner_key, outer_key = jax.random.split(key)
        rate, decay = rates(theta, state.step)
        grads = jax.grad(bilevel.inner_loss)(state.params, theta, inner_key, data)
        velocity = jax.tree.map(lambda v, g: decay * v - (1 - decay) * g, state.velocity, grads)
        params = jax.tree.map(lambda w, v: w + rate * v, state.params, velocity)
        return MomentumState(state.step + 1, params, velocity), bilevel.outer_loss(params, theta, outer_key, data)

    problem = Problem(init, step, bilevel.data, bilevel.name, momentum=Momentum(bilevel, rates))
    return keep_episode(problem, bilevel.sample)
