"""A `Bilevel` unrolled by SGD with momentum, whose steps can be run backwards."""

from collections.abc import Callable
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


def momentum_descent(
    bilevel: Bilevel,
    rates: RatesFn,
    *,
    dampened: bool = True,
    num_steps: int | None = None,
    num_counted: int = 1,
) -> Problem:
    r"""Builds the problem of minimizing the inner loss by

    .. math:: v \leftarrow \gamma_t v - (1 - \gamma_t) (\nabla L(w, \theta) + \omega_t w), \qquad
              w \leftarrow w + \alpha_t v

    from v = 0.

    Args:
      bilevel: the losses.
      rates: `(theta, step) -> (learning_rate, decay)`, alpha and gamma at int32[] step 0, 1, …; or with omega,
        the weight decay, as a third number.
      dampened: False leaves the factor 1 - gamma out, as `optax.sgd` and PyTorch do.
      num_steps: where only the end of a training counts: the length of the episodes. In episodes of another length the
        parameters are NaN. None: the losses after all steps count.
      num_counted: with num_steps, how many of the last losses count. The others are not computed and are zero; the mean
        loss of an episode is the mean of those that count.

    Returns:
      A `Problem` that declares `momentum`, for the estimator `reversible`; all unrolled estimators work on it too. Its
      loss at a step is the outer loss of the parameters after it.

    Raises:
      ValueError: unless 1 <= num_counted <= num_steps.

    Example: theta holds a learning rate for each step.
      >>> square = lambda w, theta, key, data: w**2
      >>> bilevel = Bilevel(inner_loss=square, outer_loss=square, init=lambda key, theta: 1.0)
      >>> problem = momentum_descent(bilevel, lambda theta, step: (theta[step], 0.5))
      >>> state = problem.init(jax.random.key(0), jnp.array([0.5]), 1)
      >>> state, loss = problem.step(jax.random.key(1), jnp.array([0.5]), state, problem.data)
      >>> float(loss)
      0.25
    """
    if num_steps is not None and not 1 <= num_counted <= num_steps:
        raise ValueError(f"num_counted must lie between 1 and num_steps={num_steps}, got {num_counted}.")
    momentum = Momentum(bilevel, rates, dampened, num_steps, num_counted)

    def init(key, theta, length):
        params = bilevel.init(key, theta)
        if num_steps is not None:
            params = jax.tree.map(lambda w: jnp.where(length == num_steps, w, jnp.nan), params)
        return MomentumState(jnp.zeros((), jnp.int32), params, jax.tree.map(jnp.zeros_like, params))

    def step(key, theta, state, data):
        inner_key, outer_key = jax.random.split(key)
        rate, decay, *rest = rates(theta, state.step)
        grads = jax.grad(bilevel.inner_loss)(state.params, theta, inner_key, data)
        if rest:
            grads = jax.tree.map(lambda g, w: g + _times(rest[0], w), grads, state.params)
        push = 1 - decay if dampened else 1.0
        velocity = jax.tree.map(lambda v, g: _times(decay, v) - _times(push, g), state.velocity, grads)
        params = jax.tree.map(lambda w, v: w + _times(rate, v), state.params, velocity)
        loss = counted_loss(momentum, state.step, lambda w: bilevel.outer_loss(w, theta, outer_key, data), params)
        return MomentumState(state.step + 1, params, velocity), loss

    problem = Problem(init, step, bilevel.data, bilevel.name, momentum=momentum)
    return keep_episode(problem, bilevel.sample)


def counted_loss(momentum: Momentum, step: jax.Array, loss: Callable[[Any], jax.Array], params: Any) -> jax.Array:
    """The loss after a step, zero where it does not count, so that the mean of an episode is that of those that do.

    Args:
      momentum: says which ones count.
      step: int32[], the steps made before.
      loss: `(params) -> float[]`; computed only where it counts.
      params: after the step.
    """
    if momentum.num_steps is None:
        return loss(params)
    dtype = jax.eval_shape(loss, params).dtype
    # A zero that depends on the parameters, as the loss does: JAX compares on which devices the two vary.
    zero = lambda params: jnp.where(False, jnp.sum(jax.tree.leaves(params)[0]).astype(dtype), jnp.zeros((), dtype))
    value = jax.lax.cond(step >= momentum.num_steps - momentum.num_counted, loss, zero, params)
    return momentum.num_steps / momentum.num_counted * value


def _times(number, array):
    """The product, in the type of the array."""
    return jnp.asarray(number).astype(jnp.result_type(array)) * array
