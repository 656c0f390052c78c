"""A first look at a model: losses, gradients and held-out metrics of a few draws, and what to know the model by.

A run that was stopped may go on on another machine, with another version of JAX. So a model is known by numbers, which
are compared up to rounding, and not by a hash of its program or of its data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.adaptation.trainings import SEARCH
from meta_train.evaluation import lanes
from meta_train.tasks.base import Task

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float

_DRAWS = 3


class Probe(NamedTuple):
    """What a model gives at initial parameters, for each of a few draws of these and of a minibatch."""

    losses: Float[Array, " draws"]
    largest: Any  # float[draws] for each parameter array, its largest absolute gradient
    held_out: dict[str, Float[Array, " draws"]]


def probe(task: Task) -> Probe:
    """Takes the look. Draws are made one after the other, since models with convolutions compile long side by side.

    Example:
      >>> from meta_train import tasks
      >>> probe(tasks.get("quadratic")).losses.shape
      (3,)
    """

    def look(key, data):
        sample_key, init_key, loss_key, held_out_key = jax.random.split(key, 4)
        config = task.sample(sample_key)
        params = task.init(init_key, config)
        loss, grads = jax.value_and_grad(lambda params: task.loss(params, loss_key, data, config))(params)
        largest = jax.tree.map(lambda grad: jnp.max(jnp.abs(grad), initial=0.0), grads)
        return Probe(loss, largest, task.evaluate(params, held_out_key, data, config))

    return jax.jit(lambda keys, data: jax.lax.map(lambda key: look(key, data), keys))(
        lanes.keys(_DRAWS, SEARCH), task.data
    )


def fingerprint(task: Task, found: Probe) -> dict[str, Any]:
    """What to know the model and its data by, as JSON values; floats are equal only up to rounding.

    Args:
      task: the model, with all of its data.
      found: by `probe`.

    Example:
      >>> from meta_train import tasks
      >>> task = tasks.get("quadratic")
      >>> sorted(fingerprint(task, probe(task)))
      ['data', 'gradients', 'held_out', 'losses', 'name']
    """
    return {
        "name": task.name,
        "losses": _numbers(found.losses),
        "gradients": [_numbers(leaf) for leaf in jax.tree.leaves(found.largest)],
        "held_out": {name: _numbers(values) for name, values in sorted(found.held_out.items())},
        "data": [_summary(leaf) for leaf in jax.tree.leaves(task.data)],
    }


def _numbers(values):
    return np.nan_to_num(np.asarray(values, np.float64)).tolist()


def _summary(leaf):
    """Shape, and two sums of sizes, one of which changes when rows are exchanged."""
    sizes = np.abs(np.nan_to_num(np.asarray(leaf)).astype(np.complex64 if np.iscomplexobj(leaf) else np.float32))
    rows = sizes.reshape(len(sizes) if sizes.ndim else 1, -1).sum(axis=1, dtype=np.float64)
    return [*np.shape(leaf), float(rows.sum()), float(rows @ (1.0 + np.arange(len(rows)) / max(1, len(rows))))]
