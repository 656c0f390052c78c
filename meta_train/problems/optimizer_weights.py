"""The problem whose theta is the weights of a learned optimizer: one step is one update of a task's parameters."""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_optim import LearnedOptimizer
from meta_train.tasks import augment
from meta_train.tasks.base import Task
from meta_train.tasks.base import normalized_loss
from meta_train.unroll.inner_step import inner_step
from meta_train.unroll.problem import Problem


class InnerState(NamedTuple):
    """State of an inner training run."""

    config: Any  # what the task drew for this episode
    params: Any  # the inner parameters
    opt_state: Any  # the learned optimizer's state
    num_steps: jax.Array  # int32[], the episode's length as the optimizer is told it; 0 if it is hidden


def optimizer_weights(
    optimizer: LearnedOptimizer,
    task: Task,
    *,
    second_derivatives: bool = True,
    horizon_dropout: float = 0.0,
    compute_dtype: jax.typing.DTypeLike | None = None,
) -> Problem:
    """Builds the problem of training `task` with `optimizer` under theta. The loss is the task's normalized loss.

    Args:
      optimizer: the architecture; theta is what its `init` gives.
      task: what to train.
      second_derivatives: whether derivatives with respect to theta may pass through the inner gradient. False is the
        approximation of Andrychowicz et al. 2016 (arXiv 1606.04474): cheaper, and biased. It makes no difference to
        estimators that do not differentiate.
      horizon_dropout: share of the episodes in which num_steps is hidden from the optimizer, so that one theta learns
        to work with and without it. It makes no difference to architectures that do not use num_steps.
      compute_dtype: floating-point type of the task's forward and backward pass, such as jnp.bfloat16. Parameters, the
        optimizer's state, loss and gradient that it gets, and the meta-gradient stay in float32. Meant for GPUs and
        TPUs; on most CPUs bfloat16 is slower. None leaves the task's types as they are.

    Returns:
      A `Problem` whose loss at a step is that of the parameters before the update, on the step's minibatch.

    Raises:
      ValueError: if horizon_dropout is not between 0 and 1.
      TypeError: if compute_dtype is not a floating-point type.

    Example:
      >>> import learned_optim, meta_train
      >>> problem = optimizer_weights(learned_optim.mlp((4,)), meta_train.tasks.get("quadratic"))
    """

    if not 0.0 <= horizon_dropout <= 1.0:
        raise ValueError(f"horizon_dropout is a share of the episodes, from 0 to 1, got {horizon_dropout}.")
    if compute_dtype is not None:
        task = augment.reduced_precision(task, compute_dtype)

    def init(key, theta, num_steps):
        keys = jax.random.split(key, 3 if horizon_dropout else 2)
        sample_key, init_key = keys[0], keys[1]
        if horizon_dropout:
            num_steps = jnp.where(jax.random.bernoulli(keys[2], horizon_dropout), 0, num_steps)
        config = task.sample(sample_key)
        params = task.init(init_key, config)
        opt_state = optimizer.transform(theta, num_steps=num_steps).init(params)
        return InnerState(config, params, opt_state, num_steps)

    def step(key, theta, state, data):
        loss = lambda params: task.loss(params, key, data, state.config)
        tx = optimizer.transform(theta, num_steps=state.num_steps)
        made = inner_step(loss, tx, state.params, state.opt_state, second_derivatives=second_derivatives)
        state = state._replace(params=made.params, opt_state=made.opt_state)
        return state, normalized_loss(task, made.loss, state.config)

    return Problem(init, step, task.data, task.name)
