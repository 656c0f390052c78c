"""Trains tasks with optimizers, learned and hand-designed, and measures how well it went."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import math
import time
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train.baselines import LEARNING_RATES
from meta_train.tasks.base import Task

# Seeds of two streams of random keys: results are never reported on the draws that learning rates were tuned on.
_REPORT, _TUNE = 0x5EED0001, 0x5EED0002


class Result(NamedTuple):
    """Training runs of one optimizer on one task."""

    optimizer: str
    losses: np.ndarray  # float32[seeds, num_steps], training loss of each step's minibatch before the update
    held_out: dict[str, np.ndarray]  # each float32[seeds], what the task's `evaluate` gives after the last step
    learning_rate: float | None = None  # if one was tuned
    step_milliseconds: float = math.nan  # wall-clock time of a step of all seeds side by side, without compilation
    state_bytes: int = 0  # of the optimizer's state, of one seed

    @property
    def plain_name(self) -> str:
        """The optimizer's name without the learning rate that was tuned for the task."""
        rate = "" if self.learning_rate is None else f"{self.learning_rate:g} "
        return self.optimizer.replace(f"{rate}(tuned)", "(tuned)")

    @property
    def final_losses(self) -> np.ndarray:
        """float32[seeds]: mean training loss over the last tenth of the steps; infinite where it is NaN."""
        return final_losses(self.losses)


def run(
    task: Task,
    tx: optax.GradientTransformation,
    *,
    num_steps: int,
    num_seeds: int,
    name: str = "",
    judged: Callable[[Any, Any], Any] | None = None,
) -> Result:
    """Trains a task from several seeds with one optimizer.

    A seed fixes the task's draw, the initial parameters and the minibatches: they are the same for every optimizer.

    Args:
      task: what to train.
      tx: any optax transformation with final updates; it gets the loss as `value=`.
      num_steps: updates to make.
      num_seeds: independent runs, made side by side.
      name: what to call the optimizer in the result.
      judged: `(optimizer's state, params) -> params` whose losses are reported, for optimizers that take gradients
        elsewhere, such as Schedule-Free ones. None: the parameters themselves.

    Raises:
      ValueError: if num_steps or num_seeds is below 1.

    Example:
      >>> import optax
      >>> from meta_train import tasks
      >>> result = run(tasks.get("quadratic"), optax.sgd(0.1), num_steps=30, num_seeds=2)
      >>> result.losses.shape
      (2, 30)
    """
    if num_steps < 1 or num_seeds < 1:
        raise ValueError(f"num_steps and num_seeds must be at least 1, got {num_steps} and {num_seeds}.")
    arguments = (0.0, _keys(num_seeds, _REPORT), task.data)
    train = _train_seeds(task, lambda _: tx, num_steps, judged).lower(*arguments).compile()
    began = time.perf_counter()
    losses, held_out = jax.tree.map(np.asarray, train(*arguments))
    milliseconds = 1e3 * (time.perf_counter() - began) / num_steps
    params = jax.eval_shape(lambda key: task.init(key, task.sample(key)), jax.random.key(0))
    state = jax.eval_shape(tx.init, params)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return Result(name, losses, held_out, step_milliseconds=milliseconds, state_bytes=size)


def tune(
    task: Task,
    make: Callable[[jax.Array], optax.GradientTransformation],
    *,
    num_steps: int,
    num_seeds: int = 8,
    learning_rates: Sequence[float] = LEARNING_RATES,
) -> float:
    """Returns the learning rate with the lowest mean final training loss, on seeds that `run` does not use.

    Args:
      task: what to train.
      make: optimizer from learning rate, such as `optax.adam`.
      num_steps: updates to make; the best rate depends on it.
      num_seeds: runs for each rate, whose final losses are averaged.
      learning_rates: the grid. By default three a decade from 1e-5 to 10.

    Example:
      >>> import optax
      >>> from meta_train import tasks
      >>> tune(tasks.get("quadratic"), optax.sgd, num_steps=30, learning_rates=(1e-6, 0.1))
      0.1
    """
    train = _train_seeds(task, make, num_steps)
    keys = _keys(num_seeds, _TUNE)
    finals = [final_losses(np.asarray(train(rate, keys, task.data)[0])).mean() for rate in learning_rates]
    return float(learning_rates[int(np.argmin(finals))])


def compare(
    task: Task,
    optimizers: Mapping[str, optax.GradientTransformation],
    *,
    num_steps: int,
    num_seeds: int = 5,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Result]:
    """Runs optimizers beside Adam at 1e-3 and Adam with the best learning rate of a grid, on the same seeds.

    Args:
      task: what to train.
      optimizers: names and transformations.
      num_steps: updates to make.
      num_seeds: independent runs of each.
      progress: called with a line of text before each piece of work.

    Returns:
      A `Result` for each optimizer in the order given, then "Adam 1e-3", then "Adam RATE (tuned)".
    """
    results = []
    for name, tx in {**optimizers, "Adam 1e-3": optax.adam(1e-3)}.items():
        progress(f"{task.name}: {name}")
        results.append(run(task, tx, num_steps=num_steps, num_seeds=num_seeds, name=name))
    progress(f"{task.name}: tuning Adam over {len(LEARNING_RATES)} learning rates")
    rate = tune(task, optax.adam, num_steps=num_steps, learning_rates=LEARNING_RATES)
    tuned = f"Adam {rate:g} (tuned)"
    results.append(run(task, optax.adam(rate), num_steps=num_steps, num_seeds=num_seeds, name=tuned))
    return results


def lowered(
    task: Task,
    make: Callable[[jax.Array], optax.GradientTransformation],
    num_steps: int,
    judged: Callable[[Any, Any], Any] | None = None,
) -> jax.stages.Lowered:
    """The program that `run` and `tune` use, for one seed, before compilation."""
    return _train_seeds(task, make, num_steps, judged).lower(0.0, _keys(1, _REPORT), task.data)


def final_losses(losses: np.ndarray) -> np.ndarray:
    """Mean over the last tenth of the steps (last axis), at least one; infinite where it is NaN."""
    tail = losses[..., -max(1, losses.shape[-1] // 10) :].mean(axis=-1)
    return np.where(np.isnan(tail), np.inf, tail)


def _train_seeds(task, make, num_steps, judged=None):
    @functools.partial(jax.vmap, in_axes=(None, 0, None))
    def train(learning_rate, key, data):
        tx = optax.with_extra_args_support(make(learning_rate))
        sample_key, init_key, train_key, evaluate_key = jax.random.split(key, 4)
        config = task.sample(sample_key)
        params = task.init(init_key, config)

        def step(carry, key):
            params, state = carry
            loss, grads = jax.value_and_grad(task.loss)(params, key, data, config)
            reported = loss if judged is None else task.loss(judged(state, params), key, data, config)
            updates, state = tx.update(grads, state, params, value=loss)
            return (optax.apply_updates(params, updates), state), reported / task.loss_scale(config)

        keys = jax.random.split(train_key, num_steps)
        (params, state), losses = jax.lax.scan(step, (params, tx.init(params)), keys)
        params = params if judged is None else judged(state, params)
        return losses, task.evaluate(params, evaluate_key, data, config)

    return jax.jit(train)


def _keys(num_seeds, stream):
    return jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(stream), seed))(jnp.arange(num_seeds))
