"""Training a learned optimizer, as a task like any other: what self-training trains on.

Metz et al. 2020, "Tasks, stability, architecture, and compute: Training more effective learned optimizers, and using
them to train themselves", https://arxiv.org/abs/2009.11243

Deviation: the gradient comes from backpropagation through short runs from the start, so that the task has no state.
"""

from typing import Any

import jax
import jax.numpy as jnp

from learned_optim import LearnedOptimizer
from meta_train.tasks import variation as varied
from meta_train.tasks.base import Task
from meta_train.tasks.base import log_normalizer
from meta_train.tasks.base import normalized_loss
from meta_train.tasks.variation import FIXED
from meta_train.tasks.variation import Variation
from meta_train.unroll.inner_step import inner_step


def optimizer_training(
    name: str,
    optimizer: LearnedOptimizer,
    inner: Task,
    *,
    num_steps: int = 10,
    num_runs: int = 4,
    variation: Variation = FIXED,
) -> Task:
    """Builds the task of meta-training: the parameters are the optimizer's theta, the loss is how well it trains.

    Args:
      name: the task's name.
      optimizer: whose theta to train.
      inner: the task that it trains.
      num_steps: length of the inner runs; memory grows with it.
      num_runs: inner runs a step, each with its own draw of the inner task.
      variation: scales of the initial theta and of the loss.

    Returns:
      A `Task` whose loss is the geometric mean of the inner losses over steps and runs, on the scale that the inner
      task is normalized by, so about 1 for an optimizer that does nothing. `evaluate` gives the same for 16 runs that
      are always the same draws.

    Raises:
      ValueError: if num_steps or num_runs is below 1.

    Example:
      >>> import learned_optim
      >>> from meta_train.tasks import quadratic
      >>> optimizer_training("sgd-on-quadratics", learned_optim.learned_sgd(), quadratic()).name
      'sgd-on-quadratics'
    """
    if num_steps < 1 or num_runs < 1:
        raise ValueError(f"num_steps and num_runs must be at least 1, got {num_steps} and {num_runs}.")
    varied.check(variation, has_data=False, has_targets=False)

    def mean_loss(theta: Any, key: jax.Array, data: Any) -> jax.Array:
        """Mean of the normalized losses of one run."""
        sample_key, init_key, train_key = jax.random.split(key, 3)
        config = inner.sample(sample_key)
        params = inner.init(init_key, config)
        tx = optimizer.transform(theta, num_steps=num_steps)

        def step(carry, key):
            params, state = carry
            made = inner_step(lambda params: inner.loss(params, key, data, config), tx, params, state)
            return (made.params, made.opt_state), normalized_loss(inner, made.loss, config)

        _, losses = jax.lax.scan(step, (params, tx.init(params)), jax.random.split(train_key, num_steps))
        return jnp.mean(losses)

    def over_runs(theta, key, data, num_runs):
        keys = jax.random.split(key, num_runs)
        return jnp.exp(jnp.mean(jax.vmap(mean_loss, (None, 0, None))(theta, keys, data)))

    task = Task(
        name,
        inner.data,
        sample=lambda key: (),
        init=lambda key, config: optimizer.init(key),
        loss=lambda theta, key, data, config: over_runs(theta, key, data, num_runs),
        evaluate=lambda theta, key, data, config: {"loss": over_runs(theta, jax.random.key(0), data, 16)},
        normalize=log_normalizer(1.0),
        scale=1.0,
    )
    return varied.vary_scales(task, variation)
