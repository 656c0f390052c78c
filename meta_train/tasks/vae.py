"""Variational autoencoders of images.

Kingma and Welling 2013, "Auto-Encoding Variational Bayes", https://arxiv.org/abs/1312.6114

Deviation: grey values in 0…1 are taken as probabilities of a pixel, as is common.
"""

from collections.abc import Sequence

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from meta_train.data import Dataset
from meta_train.tasks.base import Task
from meta_train.tasks.convnet import check_images
from meta_train.tasks.minibatches import MOST_HELD_OUT
from meta_train.tasks.minibatches import minibatch_task
from meta_train.tasks.variation import FIXED
from meta_train.tasks.variation import Variation


def vae(
    name: str,
    dataset: Dataset,
    *,
    hidden_sizes: Sequence[int] = (32,),
    latent_size: int = 8,
    batch_size: int = 128,
    variation: Variation = FIXED,
) -> Task:
    """Builds the task of minimizing the negative evidence lower bound.

    Args:
      name: the task's name.
      dataset: images with entries in 0…1; the labels are not used.
      hidden_sizes: units of the encoder's hidden layers, and, backwards, of the decoder's.
      latent_size: latent dimensions.
      batch_size: examples a step.
      variation: what each episode draws anew; there is no label noise.

    Returns:
      A `Task` whose loss is the bound in nats a pixel, with one sample of the latent variables an example, normalized
      by log 2, the loss of a decoder that gives every pixel probability ½. `evaluate` gives the loss on the held-out
      part, with latent variables that are always the same draw.

    Raises:
      ValueError: if the data set has no images, batch_size is below 1, or a range of variation is impossible or without
        meaning here.

    Example:
      >>> from meta_train import data
      >>> vae("digits-vae", data.load("digits"), latent_size=2).name
      'digits-vae'
    """
    check_images(dataset)
    size = int(np.prod(dataset.train_x.shape[1:]))

    def network(x, noise):
        outputs = hk.nets.MLP((*hidden_sizes, 2 * latent_size), name="encoder")(x)
        mean, log_variance = outputs[:, :latent_size], outputs[:, latent_size:]
        latent = mean + jnp.exp(0.5 * log_variance) * noise
        logits = hk.nets.MLP((*reversed(hidden_sizes), size), name="decoder")(latent)
        reconstruction = jnp.sum(jnp.logaddexp(0.0, logits) - x * logits, axis=-1)
        divergence = 0.5 * jnp.sum(jnp.exp(log_variance) + jnp.square(mean) - 1.0 - log_variance, axis=-1)
        return (reconstruction + divergence) / size

    model = hk.without_apply_rng(hk.transform(network))

    def bounds(params, key, x):
        return model.apply(params, x.reshape(len(x), size), jax.random.normal(key, (len(x), latent_size)))

    def evaluate(params, key, data):
        return {"loss": jnp.mean(bounds(params, jax.random.key(0), data.test_x[:MOST_HELD_OUT]))}

    return minibatch_task(
        name,
        dataset,
        init=lambda key: model.init(key, jnp.zeros((1, size)), jnp.zeros((1, latent_size))),
        example_losses=lambda params, key, x, y: bounds(params, key, x),
        take=lambda data, rows: (data.train_x[rows], ()),
        num_examples=len(dataset.train_x),
        evaluate=evaluate,
        scale=np.log(2),
        batch_size=batch_size,
        variation=variation,
    )
