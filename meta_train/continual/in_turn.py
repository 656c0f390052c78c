"""Trains a classifier on permuted tasks, one after another, and measures what it still knows of all of them."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import jax.numpy as jnp
import optax

from meta_train.continual.consolidation import consolidate
from meta_train.continual.consolidation import nothing_consolidated
from meta_train.continual.consolidation import penalty
from meta_train.continual.fisher import ApplyFn
from meta_train.continual.fisher import diagonal_fisher
from meta_train.data import Dataset


class ImportanceFn(Protocol):
    """Says how much each parameter matters to a task that ends."""

    def __call__(self, key: jax.Array, params: Any, x: jax.Array, /) -> Any:
        """Returns the importance.

        Args:
          key: random key.
          params: where the task left the parameters.
          x: float32[examples, inputs], some inputs of the task, in its order.

        Returns:
          Like params, not negative.
        """
        ...


def even_importance(key: jax.Array, params: Any, x: jax.Array) -> Any:
    """All parameters matter alike: the L2 penalty."""
    del key, x
    return optax.tree.ones_like(params)


def fisher_importance(apply: ApplyFn) -> ImportanceFn:
    """Builds the importance of elastic weight consolidation: the diagonal of the Fisher information.

    Args:
      apply: `(params, x) -> logits`.
    """
    return lambda key, params, x: diagonal_fisher(apply, params, x, key)


class _Carried(NamedTuple):
    params: Any
    consolidation: Any


def train_in_turn(
    apply: ApplyFn,
    params: Any,
    dataset: Dataset,
    orders: jax.Array,
    *,
    optimizer: Callable[[Any], optax.GradientTransformation],
    rate: Any,
    weight: Any,
    importance: ImportanceFn | None,
    num_steps: Any,
    key: jax.Array,
    batch_size: int = 64,
    num_judged: int = 500,
) -> jax.Array:
    """Trains on each of the tasks for some steps, and never again. Meant for `jax.jit`.

    Args:
      apply: `(params, x) -> logits`.
      params: initial parameters.
      dataset: inputs float32[examples, inputs] and labels; accuracies are those on its held-out part.
      orders: int32[tasks, inputs], as `permutations` gives them.
      optimizer: `(rate) -> transformation`. Each task begins with a new state.
      rate: its learning rate; may be traced.
      weight: of the penalty beside the mean loss of the minibatch; may be traced.
      importance: what the penalty weighs distances with, such as `fisher_importance(apply)` for elastic weight
        consolidation or `even_importance` for L2. None: plain training, without a penalty.
      num_steps: steps on each task; may be traced.
      key: random key.
      batch_size: examples a step, drawn with replacement.
      num_judged: examples that importance gets, drawn with replacement.

    Returns:
      float32[tasks, tasks], in row i, after the training on task i, the accuracies on all tasks. Those of the last row
      are what is left in the end.

    Raises:
      ValueError: if the inputs are no vectors of the length that orders have, or batch_size or num_judged is below 1.
    """
    inputs = dataset.train_x.shape[1:]
    if inputs != orders.shape[1:]:
        raise ValueError(
            f"inputs and orders must be vectors of the same length, got {inputs} and {orders.shape[1:]}: "
            "flatten the images."
        )
    for name, value in {"batch_size": batch_size, "num_judged": num_judged}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    train_x, train_y, test_x, test_y = (jnp.asarray(array) for array in dataset)

    def accuracy(params, order):
        return jnp.mean((jnp.argmax(apply(params, test_x[:, order]), axis=-1) == test_y).astype(jnp.float32))

    def task(carried, inputs):
        order, key = inputs
        step_key, rows_key, judge_key = jax.random.split(key, 3)
        tx = optimizer(rate)

        def loss(params, rows):
            logits = apply(params, train_x[rows][:, order])
            losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, train_y[rows])
            held = 0.0 if importance is None else weight * penalty(carried.consolidation, params)
            return jnp.mean(losses) + held

        def step(count, state):
            params, opt_state = state
            rows = jax.random.randint(jax.random.fold_in(step_key, count), (batch_size,), 0, len(train_x))
            updates, opt_state = tx.update(jax.grad(loss)(params, rows), opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        params, _ = jax.lax.fori_loop(0, num_steps, step, (carried.params, tx.init(carried.params)))
        accuracies = jax.lax.map(lambda order: accuracy(params, order), orders)
        consolidation = carried.consolidation
        if importance is not None:
            rows = jax.random.randint(rows_key, (num_judged,), 0, len(train_x))
            matters = importance(judge_key, params, train_x[rows][:, order])
            consolidation = consolidate(consolidation, params, matters)
        return _Carried(params, consolidation), accuracies

    keys = jax.random.split(key, len(orders))
    return jax.lax.scan(task, _Carried(params, nothing_consolidated(params)), (orders, keys))[1]
