"""A network that augments the training examples as theta.

Lorraine, Vicol, Duvenaud 2019, "Optimizing Millions of Hyperparameters by Implicit Differentiation",
https://arxiv.org/abs/1911.02590

Deviations: where the paper has a U-Net, here a perceptron adds to each picture what it makes of the picture and of
noise.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train.few_shot.base import Network
from meta_train.problems.trusted_data import ExampleLossesFn
from meta_train.problems.trusted_data import TrustedData
from meta_train.tasks.prediction import cross_entropy
from meta_train.unroll.problem import Bilevel


def learned_augmentation(
    data: TrustedData,
    network: Network,
    augmenter: Network,
    *,
    num_noise: int = 16,
    batch_size: int = 128,
    penalty: float = 1e-3,
    losses: ExampleLossesFn = cross_entropy,
) -> Bilevel:
    r"""Builds the problem of a network that changes training examples, so that a classifier does well on trusted ones.

    .. math:: x' = x + A_\theta(x, \epsilon), \qquad \epsilon \sim N(0, I)

    Args:
      data: the training examples, and the trusted ones, such as a validation set, whose mean loss is the outer loss.
      network: the classifier.
      augmenter: for rows of a flattened example and the noise; its outputs are as many as an example has numbers. Theta
        is its parameters: see `augmenter_theta`.
      num_noise: how many numbers of noise each example gets, anew in each step.
      batch_size: of both losses, drawn with replacement. With one as large as a set, all its examples, in order.
      penalty: coefficient of an L2 penalty on the classifier's parameters, half of their squared norm. Without one the
        training loss of a classifier that fits its examples has no minimum, and implicit differentiation, which is
        about the minimum, errs: the validation loss falls at first, and then rises.
      losses: of examples.

    Returns:
      A `Bilevel`.

    Raises:
      ValueError: if batch_size or num_noise is below 1, or penalty is negative.

    Example:
      >>> from meta_train import data, few_shot
      >>> from meta_train.problems import trusted_data
      >>> digits = trusted_data(data.load("digits"), num_trusted=100)
      >>> augmenter = few_shot.perceptron(64, (8,))
      >>> bilevel = learned_augmentation(digits, few_shot.perceptron(10, ()), augmenter, batch_size=32)
      >>> theta = augmenter_theta(digits, augmenter, jax.random.key(0))
      >>> params = bilevel.init(jax.random.key(1), theta)
      >>> bool(2 < jax.jit(bilevel.inner_loss)(params, theta, jax.random.key(2), bilevel.data) < 3)  # about log 10
      True

    References:
      Lorraine et al. 2019, https://arxiv.org/abs/1911.02590
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    if num_noise < 1:
        raise ValueError(f"num_noise must be at least 1, got {num_noise}.")
    if not penalty >= 0:
        raise ValueError(f"penalty must not be negative, got {penalty}.")

    def inner_loss(params, theta, key, data):
        rows_key, noise_key = jax.random.split(key)
        rows = _rows(rows_key, len(data.train_x), batch_size)
        inputs, targets = jnp.asarray(data.train_x)[rows], jnp.asarray(data.train_y)[rows]
        pictures = augmented(augmenter, theta, noise_key, inputs, num_noise)
        shrinkage = 0.5 * penalty * optax.tree.norm(params, squared=True)
        return jnp.mean(losses(network.apply(params, pictures), targets)) + shrinkage

    def outer_loss(params, theta, key, data):
        del theta
        rows = _rows(key, len(data.trusted_x), batch_size)
        inputs, targets = jnp.asarray(data.trusted_x)[rows], jnp.asarray(data.trusted_y)[rows]
        return jnp.mean(losses(network.apply(params, inputs), targets))

    init = lambda key, theta: network.init(key, data.train_x[:1])
    return Bilevel(inner_loss, outer_loss, init, data, "learned-augmentation")


def augmented(augmenter: Network, theta: Any, key: jax.Array, inputs: Any, num_noise: int = 16) -> jax.Array:
    """Examples as the augmenter changes them.

    Args:
      augmenter: the network.
      theta: its parameters.
      key: draws the noise.
      inputs: float[n, ...].
      num_noise: of each example.

    Returns:
      float[n, ...].
    """
    inputs = jnp.asarray(inputs)
    noise = jax.random.normal(key, (len(inputs), num_noise), inputs.dtype)
    rows = jnp.concatenate([inputs.reshape(len(inputs), -1), noise], axis=1)
    return inputs + augmenter.apply(theta, rows).reshape(inputs.shape)


def augmenter_theta(data: TrustedData, augmenter: Network, key: jax.Array, num_noise: int = 16, scale: float = 0.1):
    """Draws parameters of the augmenter, of which it changes examples a little to begin with.

    Args:
      data: the examples.
      augmenter: the network.
      key: random key.
      num_noise: as of `learned_augmentation`.
      scale: factor on the last layer.
    """
    size = int(np.prod(data.train_x.shape[1:]))
    theta = augmenter.init(key, jnp.zeros((1, size + num_noise), jnp.float32))
    return theta | {augmenter.head: jax.tree.map(lambda x: scale * x, theta[augmenter.head])}


def _rows(key, size, batch_size):
    if batch_size >= size:
        return jnp.arange(size, dtype=jnp.int32)
    return jax.random.randint(key, (batch_size,), 0, size, jnp.int32)
