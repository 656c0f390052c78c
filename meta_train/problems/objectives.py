"""Meta-objectives other than the mean of an episode's losses.

Estimators give the gradient of a problem's mean loss per step. Each function here wraps a problem, so that the mean
loss of the result over an episode is another objective of the wrapped one. They work with every estimator, and with
each other: `last(held_out(problem, task))` is the held-out loss at the end.

A window sees only the steps that it holds. With `last` the whole objective lies in an episode's last window. `pes`,
`gpes` and `nres` stay unbiased; truncated estimators miss the influence of theta before that window.
"""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from meta_train.tasks.base import Task
from meta_train.unroll.problem import Problem


class LastState(NamedTuple):
    """State of `last` and `late`."""

    inner: Any  # the first problem's state
    remaining: jax.Array  # int32[], steps until the episode ends
    num_steps: jax.Array  # int32[], steps of the episode


class FinalState(NamedTuple):
    """State of `log_final`."""

    inner: Any  # the first problem's state
    total: jax.Array  # float[], sum of the losses of the last part so far
    step: jax.Array  # int32[], steps made
    num_steps: jax.Array  # int32[], steps of the episode


class BestState(NamedTuple):
    """State of `best`."""

    inner: Any  # the first problem's state
    best: jax.Array  # float32[], the least loss so far; 0 before the first
    begun: jax.Array  # bool[], whether there was one
    num_steps: jax.Array  # int32[], steps of the episode


def last(problem: Problem) -> Problem:
    r"""Makes the loss at an episode's last step the objective.

    .. math:: L'_t = T L_T \text{ if } t = T, \text{ else } 0

    Args:
      problem: any problem. Optional structure of it, such as an inverse step, does not carry over.

    Returns:
      A `Problem` whose mean loss over an episode is the last loss of `problem`. The first episode of a worker that
      starts at an offset (`stagger`) has no last step, and no loss.

    Example:
      >>> import jax.numpy as jnp
      >>> counter = Problem(lambda key, theta, num_steps: 0.0, lambda key, theta, s, data: (s + 1.0, s + 1.0))
      >>> problem = last(counter)
      >>> state = problem.init(None, None, jnp.asarray(3))
      >>> for _ in range(3):
      ...     state, loss = problem.step(None, None, state, ())
      ...     print(loss)
      0.0
      0.0
      9.0
    """

    def init(key, theta, num_steps):
        num_steps = jnp.asarray(num_steps, jnp.int32)
        return LastState(problem.init(key, theta, num_steps), num_steps, num_steps)

    def step(key, theta, state, data):
        inner, loss = problem.step(key, theta, state.inner, data)
        loss = jnp.asarray(loss)
        objective = jnp.where(state.remaining == 1, state.num_steps.astype(loss.dtype) * loss, 0)
        return LastState(inner, state.remaining - 1, state.num_steps), objective

    return Problem(init, step, problem.data, problem.name)


def log_final(problem: Problem, part: float = 0.1, floor: float = 1e-8) -> Problem:
    r"""Makes the logarithm of the loss at an episode's end the objective, as optimizers are judged by it.

    .. math::
      L'_T = T \log \Big(\epsilon + \frac{1}{n} \sum_{t > T - n} L_t\Big), \quad
      n = \max(1, \lfloor T p \rfloor), \quad L'_t = 0 \text{ for } t < T

    Args:
      problem: any problem with losses above zero. Optional structure of it, such as an inverse step, does not carry
        over.
      part: p, the part of the episode over which losses are averaged, above 0 and at most 1.
      floor: ε, above 0. Losses far below it count as equal.

    Returns:
      A `Problem` whose mean loss over an episode is the log of the mean of its last losses. The first episode of a
      worker that starts at an offset (`stagger`) has fewer losses before its end.

    Raises:
      ValueError: if part or floor is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> problem = Problem(lambda key, theta, num_steps: 0.0, lambda key, theta, s, data: (s + 1.0, jnp.exp(-s)))
      >>> problem = log_final(problem)
      >>> state = problem.init(None, None, jnp.asarray(3))
      >>> for _ in range(3):
      ...     state, loss = problem.step(None, None, state, ())
      ...     print(round(float(loss), 3))
      0.0
      0.0
      -6.0
    """
    if not 0.0 < part <= 1.0:
        raise ValueError(f"part is the part of an episode whose losses count, above 0 and at most 1, got {part}.")
    if not floor > 0.0:
        raise ValueError(f"floor is added to the loss before its logarithm and must be above 0, got {floor}.")

    def init(key, theta, num_steps):
        num_steps, inner = jnp.asarray(num_steps, jnp.int32), problem.init(key, theta, num_steps)
        loss = jax.eval_shape(problem.step, key, theta, inner, problem.data)[1]
        return FinalState(inner, jnp.zeros((), loss.dtype), jnp.zeros((), jnp.int32), num_steps)

    def step(key, theta, state, data):
        inner, loss = problem.step(key, theta, state.inner, data)
        length = jnp.maximum(1, jnp.floor(state.num_steps.astype(loss.dtype) * part)).astype(jnp.int32)
        total = state.total + jnp.where(state.step >= state.num_steps - length, loss, 0)
        at_end = state.num_steps.astype(loss.dtype) * jnp.log(total / length.astype(loss.dtype) + floor)
        objective = jnp.where(state.step + 1 == state.num_steps, at_end, 0)
        return FinalState(inner, total, state.step + 1, state.num_steps), objective

    return Problem(init, step, problem.data, problem.name)


def late(problem: Problem, power: float = 2.0) -> Problem:
    r"""Weights the losses of an episode by a power of progress: from their mean (power 0) towards the last (infinity).

    .. math:: L'_t = (k + 1) \left(\frac{t + 1/2}{T}\right)^k L_t

    for steps t = 0 … T - 1. Every window contributes, as with the mean, and the end counts most, as with `last`.

    Args:
      problem: any problem. Optional structure of it, such as an inverse step, does not carry over.
      power: the exponent k, at least 0.

    Returns:
      A `Problem` whose mean loss over an episode is the weighted mean of `problem`'s. The first episode of a worker
      that starts at an offset (`stagger`) has the weights of an episode's beginning.

    Raises:
      ValueError: if power is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> problem = late(Problem(lambda key, theta, num_steps: 0.0, lambda key, theta, s, data: (s, 1.0)), power=1.0)
      >>> state = problem.init(None, None, jnp.asarray(4))
      >>> for _ in range(4):
      ...     state, loss = problem.step(None, None, state, ())
      ...     print(loss)
      0.25
      0.75
      1.25
      1.75
    """
    if not power >= 0:
        raise ValueError(f"power must be at least 0, got {power}: 0 is the mean of all losses.")

    def init(key, theta, num_steps):
        num_steps = jnp.asarray(num_steps, jnp.int32)
        return LastState(problem.init(key, theta, num_steps), num_steps, num_steps)

    def step(key, theta, state, data):
        inner, loss = problem.step(key, theta, state.inner, data)
        loss = jnp.asarray(loss)
        made = state.num_steps - state.remaining
        progress = (made.astype(loss.dtype) + 0.5) / state.num_steps.astype(loss.dtype)
        return LastState(inner, state.remaining - 1, state.num_steps), (power + 1.0) * progress**power * loss

    return Problem(init, step, problem.data, problem.name)


def best(problem: Problem) -> Problem:
    r"""Makes the least loss of an episode the objective.

    .. math:: L'_t = T (m_t - m_{t-1}), \quad m_t = \min(m_{t-1}, L_t), \quad m_0 = 0, \; m_1 = L_1

    The sum telescopes to T times the minimum: each step counts by how much it improves the best loss.

    Args:
      problem: any problem. Optional structure of it, such as an inverse step, does not carry over.

    Returns:
      A `Problem` whose mean loss over an episode is the least loss of `problem`.

    Example:
      >>> import jax.numpy as jnp
      >>> losses = jnp.array([5.0, 2.0, 3.0])
      >>> replay = Problem(lambda key, theta, num_steps: 0, lambda key, theta, s, data: (s + 1, data[s]), losses)
      >>> problem = best(replay)
      >>> state = problem.init(None, None, jnp.asarray(3))
      >>> for _ in range(3):
      ...     state, loss = problem.step(None, None, state, problem.data)
      ...     print(loss)
      15.0
      -9.0
      0.0
    """

    def init(key, theta, num_steps):
        num_steps, inner = jnp.asarray(num_steps, jnp.int32), problem.init(key, theta, num_steps)
        loss = jax.eval_shape(problem.step, key, theta, inner, problem.data)[1]
        return BestState(inner, jnp.zeros((), loss.dtype), jnp.asarray(False), num_steps)

    def step(key, theta, state, data):
        inner, loss = problem.step(key, theta, state.inner, data)
        least = jnp.where(state.begun, jnp.minimum(state.best, loss), loss)
        objective = state.num_steps.astype(least.dtype) * (least - state.best)
        return BestState(inner, least, jnp.asarray(True), state.num_steps), objective

    return Problem(init, step, problem.data, problem.name)


def held_out(problem: Problem, task: Task) -> Problem:
    """Makes the held-out loss after each step the objective of training a task with a learned optimizer.

    Every step also evaluates the task on its held-out examples, which adds to its cost. The held-out examples then
    influence theta; keep other examples to judge it by.

    Args:
      problem: what `problems.optimizer_weights` made of `task`: a state with `params` and `config`.
      task: the task, whose `evaluate` gives the held-out `loss`.

    Returns:
      A `Problem` whose loss at a step is the normalized held-out loss of the parameters after the update.

    Example:
      >>> import learned_optim
      >>> from meta_train import problems, tasks
      >>> task = tasks.get("quadratic")
      >>> problem = held_out(problems.optimizer_weights(learned_optim.mlp((4,)), task), task)
    """

    def step(key, theta, state, data):
        state, _ = problem.step(key, theta, state, data)
        metrics = task.evaluate(state.params, jax.random.fold_in(key, 0), data, state.config)
        return state, task.normalize(metrics["loss"])

    return Problem(problem.init, step, problem.data, problem.name)
