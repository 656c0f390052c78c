"""Autoencoders of images.

Hinton and Salakhutdinov 2006, "Reducing the Dimensionality of Data with Neural Networks",
https://doi.org/10.1126/science.1127647

Deviation: trained as one, without the layer-wise start.
"""

from collections.abc import Callable
from collections.abc import Sequence

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from meta_train.data import Dataset
from meta_train.tasks.base import Task
from meta_train.tasks.minibatches import MOST_HELD_OUT
from meta_train.tasks.minibatches import minibatch_task
from meta_train.tasks.mlp import perceptron
from meta_train.tasks.variation import FIXED
from meta_train.tasks.variation import Variation


def autoencoder(
    name: str,
    dataset: Dataset,
    *,
    hidden_sizes: Sequence[int] = (32, 8, 32),
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
    batch_size: int = 128,
    variation: Variation = FIXED,
) -> Task:
    """Builds the task of reconstructing inputs through a narrow layer.

    Args:
      name: the task's name.
      dataset: examples; the labels are not used. Images are flattened.
      hidden_sizes: units of the hidden layers.
      activation: of the hidden layers.
      batch_size: examples a step.
      variation: what each episode draws anew; there is no label noise, for the inputs are the targets.

    Returns:
      A `Task` whose loss is the mean squared error of an input's entries, normalized by the mean variance of an entry,
      which is the loss of the mean input. `evaluate` gives the loss on the held-out part.

    Raises:
      ValueError: if batch_size is below 1, or a range of variation is impossible or without meaning here.

    Example:
      >>> from meta_train import data
      >>> autoencoder("digits-autoencoder", data.load("digits"), hidden_sizes=(16, 4, 16)).name
      'digits-autoencoder'
    """
    size = int(np.prod(dataset.train_x.shape[1:]))
    model = hk.without_apply_rng(hk.transform(perceptron((*hidden_sizes, size), activation)))

    def errors(params, x):
        return jnp.mean(jnp.square(model.apply(params, x) - x.reshape(len(x), size)), axis=-1)

    return minibatch_task(
        name,
        dataset,
        init=lambda key: model.init(key, jnp.zeros((1, size), jnp.float32)),
        example_losses=lambda params, key, x, y: errors(params, x),
        take=lambda data, rows: (data.train_x[rows], ()),
        num_examples=len(dataset.train_x),
        evaluate=lambda params, key, data: {"loss": jnp.mean(errors(params, data.test_x[:MOST_HELD_OUT]))},
        scale=float(np.mean(np.var(dataset.train_x, axis=0))),
        batch_size=batch_size,
        variation=variation,
    )
