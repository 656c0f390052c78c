"""Losses as theta: a network that weighs examples by their loss, and a network that changes the loss itself.

Shu et al. 2019, "Meta-Weight-Net: Learning an Explicit Mapping For Sample Weighting",
https://arxiv.org/abs/1902.07379: `meta_weight_net`. Bechtle et al. 2021, "Meta-Learning via Learned Loss",
https://arxiv.org/abs/1906.05374: `learned_loss`.

Deviations: of the former, the network's step uses theta of before the outer step, not after it. Of the latter, the
loss network sees each class of an example by itself, so that it knows no order of the classes, and fits any number; and
its output is added to the cross-entropy. Bechtle et al. have no such term. But a random loss leads a classifier away
before a gradient that looks a step ahead can mend it.
"""

from typing import Any

import jax
import jax.numpy as jnp

from meta_train.few_shot.base import Network
from meta_train.few_shot.networks import perceptron
from meta_train.problems.trusted_data import ExampleLossesFn
from meta_train.problems.trusted_data import TrustedData
from meta_train.problems.trusted_data import judged_by_trusted
from meta_train.problems.trusted_data import weighted_mean
from meta_train.tasks.prediction import cross_entropy
from meta_train.unroll.problem import Bilevel

_LOSS_NETWORK = perceptron(1, (40,))


def meta_weight_net(
    data: TrustedData,
    network: Network,
    weigher: Network | None = None,
    *,
    batch_size: int = 128,
    losses: ExampleLossesFn = cross_entropy,
) -> Bilevel:
    r"""Builds the problem of a network that gives each training example a weight by its loss.

    .. math:: L(w, \theta) = \frac{\sum_i V(\ell_i; \theta) \, \ell_i(w)}{\sum_i V(\ell_i; \theta)}, \qquad
              V(\ell; \theta) = \sigma(f_\theta(\ell))

    where no derivative by w goes through V, and i runs over a minibatch.

    Args:
      data: the training examples, and the trusted ones whose mean loss is the outer loss.
      network: for their inputs.
      weigher: f, from float[n, 1], the losses, to float[n, 1]. By default a hidden layer of 100 units, as in the paper.
        Theta is its parameters: `weigher.init(key, jnp.zeros((1, 1)))`.
      batch_size: of both losses, drawn with replacement.
      losses: of examples.

    Returns:
      A `Bilevel`.

    Raises:
      ValueError: if batch_size is below 1.

    Example: the weights at the start are near one half.
      >>> from meta_train import data, few_shot
      >>> from meta_train.problems import trusted_data
      >>> noisy = trusted_data(data.load("digits"), num_trusted=100, noise=0.4)
      >>> bilevel = meta_weight_net(noisy, few_shot.perceptron(10, ()))
      >>> theta = few_shot.perceptron(1, (100,)).init(jax.random.key(0), jnp.zeros((1, 1)))
      >>> params = bilevel.init(jax.random.key(1), theta)
      >>> bool(2 < bilevel.inner_loss(params, theta, jax.random.key(2), bilevel.data) < 3)  # about log 10
      True

    References:
      Shu et al. 2019, https://arxiv.org/abs/1902.07379
    """
    weigher = perceptron(1, (100,)) if weigher is None else weigher

    def training_loss(theta, apply, rows, inputs, targets):
        del rows
        found = losses(apply(inputs), targets)
        return weighted_mean(found, loss_weights(weigher, theta, jax.lax.stop_gradient(found)))

    return judged_by_trusted(data, network, training_loss, name="meta-weight-net", batch_size=batch_size, losses=losses)


def loss_weights(weigher: Network, theta, losses: jax.Array) -> jax.Array:
    """The weights float[n] in 0…1 that a `meta_weight_net` gives to examples with these losses, float[n].

    Example:
      >>> weigher = perceptron(1, (100,))
      >>> theta = weigher.init(jax.random.key(0), jnp.zeros((1, 1)))
      >>> float(loss_weights(weigher, theta, jnp.zeros(1))[0])
      0.5
    """
    return jax.nn.sigmoid(weigher.apply(theta, losses[:, None])[:, 0])


def learned_loss(
    data: TrustedData, network: Network, loss_network: Network | None = None, *, batch_size: int = 128
) -> Bilevel:
    r"""Builds the problem of a network that changes the loss of a classifier.

    .. math:: L(w, \theta) = \mathrm{mean}_i \sum_c \big( f_\theta(\log p_{ic}, y_{ic}) - y_{ic} \log p_{ic} \big)

    with the classifier's probabilities p and the labels y as ones and zeros.

    Args:
      data: the training examples with labels, and the trusted ones whose mean cross-entropy is the outer loss.
      network: for their inputs.
      loss_network: f, from float[n, 2] to float[n, 1]. By default a hidden layer of 40 units. Theta is its parameters,
        as `loss_theta` draws them.
      batch_size: of both losses, drawn with replacement.

    Returns:
      A `Bilevel`.

    Raises:
      ValueError: if batch_size is below 1.

    Example: it begins as the cross-entropy.
      >>> from meta_train import data, few_shot
      >>> from meta_train.problems import trusted_data
      >>> noisy = trusted_data(data.load("digits"), num_trusted=100, noise=0.4)
      >>> bilevel = learned_loss(noisy, few_shot.perceptron(10, ()))
      >>> theta = loss_theta(jax.random.key(0))
      >>> params = bilevel.init(jax.random.key(1), theta)
      >>> bool(2 < bilevel.inner_loss(params, theta, jax.random.key(2), bilevel.data) < 3)  # about log 10
      True

    References:
      Bechtle et al. 2021, https://arxiv.org/abs/1906.05374
    """
    loss_network = _LOSS_NETWORK if loss_network is None else loss_network

    def training_loss(theta, apply, rows, inputs, targets):
        del rows
        log_probabilities = jax.nn.log_softmax(apply(inputs))
        n, classes = log_probabilities.shape
        seen = jnp.stack([log_probabilities, jax.nn.one_hot(targets, classes, dtype=log_probabilities.dtype)], axis=-1)
        added = jnp.sum(loss_network.apply(theta, seen.reshape(n * classes, 2))) / n
        return added - jnp.sum(seen[..., 0] * seen[..., 1]) / n

    return judged_by_trusted(data, network, training_loss, name="learned-loss", batch_size=batch_size)


def loss_theta(key: jax.Array, loss_network: Network | None = None) -> Any:
    """Draws the first theta of `learned_loss`: its last layer is zero, so that the loss begins as the cross-entropy.

    Args:
      key: random key.
      loss_network: as of `learned_loss`.

    Returns:
      The loss network's parameters.

    Example:
      >>> theta = loss_theta(jax.random.key(0))
      >>> theta["head"]["w"].shape, float(jnp.abs(theta["head"]["w"]).max())
      ((40, 1), 0.0)
    """
    loss_network = _LOSS_NETWORK if loss_network is None else loss_network
    theta = loss_network.init(key, jnp.zeros((1, 2)))
    return {**theta, loss_network.head: jax.tree.map(jnp.zeros_like, theta[loss_network.head])}
