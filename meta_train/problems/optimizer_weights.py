"""The problem whose theta is the weights of a learned optimizer: one step is one update of a task's parameters."""

from typing import Any
from typing import NamedTuple

import jax
import optax

from learned_optim import LearnedOptimizer
from meta_train.problem import Problem
from meta_train.tasks.base import Task


class InnerState(NamedTuple):
    """State of an inner training run."""

    config: Any  # what the task drew for this episode
    params: Any  # the inner parameters
    opt_state: Any  # the learned optimizer's state
    num_steps: jax.Array  # int32[], the episode's length, passed to the optimizer


def optimizer_weights(optimizer: LearnedOptimizer, task: Task, *, second_derivatives: bool = True) -> Problem:
    """Builds the problem of training `task` with `optimizer` under theta. The loss is the task's normalised loss.

    Args:
      optimizer: the architecture; theta is what its `init` gives.
      task: what to train.
      second_derivatives: whether derivatives with respect to theta may pass through the inner gradient. False is the
        approximation of Andrychowicz et al. 2016 (arXiv 1606.04474): cheaper, and biased. No matter for estimators
        that do not differentiate.

    Returns:
      A `Problem` whose loss at a step is that of the parameters before the update, on the step's minibatch.

    Example:
      >>> import learned_optim, meta_train
      >>> problem = optimizer_weights(learned_optim.mlp((4,)), meta_train.tasks.get("quadratic"))
    """

    def init(key, theta, num_steps):
        sample_key, init_key = jax.random.split(key)
        config = task.sample(sample_key)
        params = task.init(init_key, config)
        opt_state = optimizer.transform(theta, num_steps=num_steps).init(params)
        return InnerState(config, params, opt_state, num_steps)

    def step(key, theta, state, data):
        loss, grads = jax.value_and_grad(task.loss)(state.params, key, data, state.config)
        if not second_derivatives:
            grads = jax.lax.stop_gradient(grads)
        tx = optimizer.transform(theta, num_steps=state.num_steps)
        updates, opt_state = tx.update(grads, state.opt_state, state.params, value=loss)
        params = optax.apply_updates(state.params, updates)
        return state._replace(params=params, opt_state=opt_state), task.normalize(loss)

    return Problem(init, step, task.data, task.name)
