"""A `Bilevel` as an unrolled `Problem`: one step is one update of the inner parameters."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import optax

from meta_train.unroll.episode_data import keep_episode
from meta_train.unroll.inner_step import inner_step
from meta_train.unroll.problem import Bilevel
from meta_train.unroll.problem import Problem


class UnrolledState(NamedTuple):
    """State of an inner minimization."""

    params: Any  # the inner parameters
    opt_state: Any  # the inner optimizer's state


def unrolled(
    bilevel: Bilevel,
    inner_optimizer: optax.GradientTransformation | Callable[[Any], optax.GradientTransformation],
    *,
    inner_steps: int = 1,
    second_derivatives: bool = True,
) -> Problem:
    """Builds the problem of minimizing the inner loss step by step, on which every unrolled estimator works.

    Args:
      bilevel: the losses. With `bilevel.sample`, each episode draws data of its own, and the state is a
        `SampledState` around an `UnrolledState`.
      inner_optimizer: an optax transformation with final updates, or a function from theta to one. It gets the inner
        loss as `value=`.
      inner_steps: updates in a step of the problem. The outer loss is computed after the last of them only: where
        nothing but the loss at the end counts, this saves the others.
      second_derivatives: whether derivatives with respect to theta may pass through the inner gradient. False is the
        approximation of first-order MAML (Finn et al. 2017, https://arxiv.org/abs/1703.03400): what theta does to
        the inner loss is lost, what it does to `bilevel.init` and to the optimizer is kept.

    Returns:
      A `Problem` whose loss at a step is the outer loss of the parameters after the updates. It declares `bilevel`
      unless the optimizer is a function of theta: what theta does to an optimizer shows in no loss.

    Raises:
      ValueError: if inner_steps is below 1.

    Example: theta is the learning rate, the loss after a step that of `w = 1 - 2 * theta`.
      >>> import jax, optax
      >>> square = lambda w, theta, key, data: w**2
      >>> problem = unrolled(Bilevel(square, square, init=lambda key, theta: 1.0), optax.sgd)
      >>> state = problem.init(jax.random.key(0), 0.25, 1)
      >>> state, loss = problem.step(jax.random.key(1), 0.25, state, problem.data)
      >>> float(loss)
      0.25
    """
    if inner_steps < 1:
        raise ValueError(f"inner_steps must be at least 1, got {inner_steps}.")
    of_theta = callable(inner_optimizer)
    transform = lambda theta: inner_optimizer(theta) if callable(inner_optimizer) else inner_optimizer

    def init(key, theta, num_steps):
        del num_steps
        params = bilevel.init(key, theta)
        return UnrolledState(params, transform(theta).init(params))

    def step(key, theta, state, data):
        inner_key, outer_key = jax.random.split(key)
        tx = transform(theta)

        def update(state, key):
            return inner_update(bilevel, tx, key, theta, state, data, second_derivatives=second_derivatives), None

        if inner_steps == 1:
            state, _ = update(state, inner_key)
        else:
            state, _ = jax.lax.scan(update, state, jax.random.split(inner_key, inner_steps))
        return state, bilevel.outer_loss(state.params, theta, outer_key, data)

    problem = Problem(init, step, bilevel.data, bilevel.name, bilevel=None if of_theta else bilevel)
    return keep_episode(problem, bilevel.sample)


def inner_update(
    bilevel: Bilevel,
    inner_optimizer: optax.GradientTransformation,
    key: jax.Array,
    theta: Any,
    state: UnrolledState,
    data: Any,
    *,
    second_derivatives: bool = True,
) -> UnrolledState:
    """One update of the inner parameters on the inner loss."""
    loss = lambda params: bilevel.inner_loss(params, theta, key, data)
    step = inner_step(loss, inner_optimizer, state.params, state.opt_state, second_derivatives=second_derivatives)
    return UnrolledState(step.params, step.opt_state)
