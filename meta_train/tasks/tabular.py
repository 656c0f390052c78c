"""Multilayer perceptrons on tables: classes or a number to predict."""

from collections.abc import Callable
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from meta_train.data import Dataset
from meta_train.tasks.base import Task
from meta_train.tasks.mlp import mlp
from meta_train.tasks.mlp import perceptron
from meta_train.tasks.prediction import regression
from meta_train.tasks.variation import FIXED
from meta_train.tasks.variation import Variation


def tabular(
    name: str,
    dataset: Dataset,
    *,
    hidden_sizes: Sequence[int] = (32, 32),
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
    normalization: Callable[[jax.Array], jax.Array] | None = None,
    batch_size: int = 64,
    variation: Variation = FIXED,
) -> Task:
    """Builds the task of predicting a table's last column: classification if it holds classes, or else regression.

    Args:
      name: the task's name.
      dataset: a table; integers as labels are classes, floating-point numbers are standardized targets.
      hidden_sizes, activation, normalization: see `mlp`.
      batch_size: examples a step.
      variation: what each episode draws anew.

    Example:
      >>> from meta_train import data
      >>> tabular("diabetes", data.load("diabetes"), hidden_sizes=(16,)).name
      'diabetes'
    """
    if jnp.issubdtype(dataset.train_y.dtype, jnp.integer):
        return mlp(
            name,
            dataset,
            hidden_sizes=hidden_sizes,
            activation=activation,
            normalization=normalization,
            batch_size=batch_size,
            variation=variation,
        )
    network = perceptron((*hidden_sizes, 1), activation, normalization)
    return regression(name, dataset, network, batch_size=batch_size, variation=variation)
