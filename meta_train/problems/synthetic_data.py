"""A small synthetic data set as theta, on which networks are trained in place of the real one.

Wang, Zhu, Torralba, Efros 2018, "Dataset Distillation", https://arxiv.org/abs/1811.10959: `synthetic_training`, whose
steps of training are differentiated. Zhao, Mopuri, Bilen 2021, "Dataset Condensation with Gradient Matching",
https://arxiv.org/abs/2006.05929: `gradient_matching`, which differentiates a single gradient.

Deviations of the latter: the pictures move once for all classes together, where the authors' code moves those of each
class when its turn comes. The two differ by nothing, since a class's distance depends on its own pictures alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train.data import Dataset
from meta_train.data import num_classes
from meta_train.few_shot.base import Network
from meta_train.problems.gradient_distance import gradient_distance
from meta_train.tasks.prediction import cross_entropy
from meta_train.unroll.inner_step import inner_step
from meta_train.unroll.problem import Bilevel
from meta_train.unroll.problem import Problem

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float


class Synthetic(NamedTuple):
    """A synthetic data set and how fast to train on it: the theta of `synthetic_training`."""

    inputs: Any  # float32[classes, per_class, ...], the examples of each class
    log_rate: Any  # float32[], logarithm of the learning rate


class RealData(NamedTuple):
    """A data set with its rows listed by class."""

    inputs: Any  # float32[n, ...]
    labels: Any  # int32[n]
    rows: Any  # int32[classes, smallest class], places of each class's examples; of large classes the first ones


class MatchingState(NamedTuple):
    """State of the network at whose parameters gradients are matched."""

    params: Any  # the network's parameters
    opt_state: Any  # its optimizer's state


def gradient_matching(
    dataset: Dataset,
    network: Network,
    *,
    inner_optimizer: optax.GradientTransformation,
    inner_steps: int = 1,
    batch_size: int = 256,
) -> Problem:
    r"""Builds the problem of examples that give a network the gradients that real ones give it.

    .. math:: \min_\theta \; E_{w} \sum_{c} D\big(\nabla_w L(w, \mathrm{real}_c), \nabla_w L(w, \theta_c)\big)

    with D of `gradient_distance`, over networks w on their way from a fresh draw through training on the synthetic
    examples. Theta is float[classes, per_class, ...], such as `real_examples` draws to begin with.

    Args:
      dataset: the real data, with labels. Its held-out part is not looked at.
      network: for its inputs, with as many outputs as there are classes.
      inner_optimizer: an optax transformation with final updates, which trains the network. The paper has SGD at .01.
      inner_steps: its updates after each match, on all synthetic examples at once.
      batch_size: real examples of each class in a match, drawn with replacement.

    Returns:
      A `Problem`. A step is a match, whose distance is the loss, and then the training that follows it, through which
      no derivative goes. `truncated_backprop(problem, unroll_length=1, horizon=truncation.constant(matches), …)` moves
      theta after each match, as the paper does; an episode is a fresh network.

    Raises:
      ValueError: if a number is below 1, a class has no example, or the data set has no labels.

    Example:
      >>> from meta_train import data, few_shot
      >>> digits = data.load("digits")
      >>> problem = gradient_matching(digits, few_shot.perceptron(10, (16,)), inner_optimizer=optax.sgd(0.01))
      >>> theta = real_examples(jax.random.key(0), digits, per_class=1)
      >>> state = jax.jit(problem.init)(jax.random.key(1), theta, jnp.asarray(1))
      >>> state, distance = jax.jit(problem.step)(jax.random.key(2), theta, state, problem.data)
      >>> bool(0 < distance < 10 * 2 * 26)  # 10 classes; 16 + 10 output units
      True

    References:
      Zhao et al. 2021, https://arxiv.org/abs/2006.05929
    """
    if inner_steps < 0 or batch_size < 1:
        raise ValueError(
            f"batch_size must be at least 1 and inner_steps not negative, got {batch_size} and {inner_steps}."
        )
    data = by_class(dataset)
    classes = np.arange(len(data.rows), dtype=np.int32)

    def init(key, theta, num_steps):
        del num_steps
        params = network.init(key, theta[0])
        return MatchingState(params, inner_optimizer.init(params))

    def class_gradient(params, inputs, label):
        return jax.grad(lambda params: _mean_loss(network, params, inputs, jnp.full(len(inputs), label)))(params)

    def step(key, theta, state, data):
        chosen = jax.random.randint(key, (len(classes), batch_size), 0, data.rows.shape[1])
        real = jnp.asarray(data.inputs)[jnp.take_along_axis(jnp.asarray(data.rows), chosen, axis=1)]
        gradients = jax.vmap(class_gradient, in_axes=(None, 0, 0))
        wanted = gradients(state.params, real, classes)
        loss = jnp.sum(jax.vmap(gradient_distance)(wanted, gradients(state.params, theta, classes)))
        fixed = jax.lax.stop_gradient(theta)

        def train(state, _):
            made = inner_step(
                lambda params: synthetic_loss(network, params, fixed), inner_optimizer, state.params, state.opt_state
            )
            return MatchingState(made.params, made.opt_state), None

        return jax.lax.scan(train, state, None, length=inner_steps)[0], loss

    return Problem(init, step, data, "gradient-matching")


def synthetic_training(dataset: Dataset, network: Network, *, batch_size: int = 256) -> Bilevel:
    r"""Builds the problem of examples that train a fresh network well.

    The inner loss is that of the network on all synthetic examples, the outer loss that on a minibatch of real ones.
    Theta is a `Synthetic`. Its rate is the user's to read, so that it is learned too:

        problem = problems.unrolled(bilevel, lambda theta: optax.sgd(jnp.exp(theta.log_rate)))

    Args:
      dataset: the real data, with labels. Its held-out part is not looked at.
      network: for its inputs, with as many outputs as there are classes.
      batch_size: real examples in a minibatch of the outer loss, drawn with replacement.

    Returns:
      A `Bilevel` of fresh networks. Unroll it with `full_backprop`, or with `truncated_backprop` whose window is the
      whole training and whose objective is the last loss, as the paper has it.

    Raises:
      ValueError: if batch_size is below 1, a class has no example, or the data set has no labels.

    Example:
      >>> from meta_train import data, few_shot
      >>> digits = data.load("digits")
      >>> bilevel = synthetic_training(digits, few_shot.perceptron(10, ()))
      >>> theta = Synthetic(real_examples(jax.random.key(0), digits, per_class=1), jnp.log(0.1))
      >>> params = bilevel.init(jax.random.key(1), theta)
      >>> bool(2 < bilevel.outer_loss(params, theta, jax.random.key(2), bilevel.data) < 3)  # about log 10
      True

    References:
      Wang et al. 2018, https://arxiv.org/abs/1811.10959
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")

    def outer_loss(params, theta, key, data):
        del theta
        chosen = jax.random.randint(key, (batch_size,), 0, len(data.inputs))
        return _mean_loss(network, params, jnp.asarray(data.inputs)[chosen], jnp.asarray(data.labels)[chosen])

    return Bilevel(
        inner_loss=lambda params, theta, key, data: synthetic_loss(network, params, theta.inputs),
        outer_loss=outer_loss,
        init=lambda key, theta: network.init(key, theta.inputs[0]),
        data=by_class(dataset),
        name="synthetic-training",
    )


def synthetic_loss(network: Network, params: Any, inputs: Float[Array, "classes per_class *example"]) -> jax.Array:
    """The network's mean cross-entropy on all examples of a synthetic set, in nats."""
    classes, per_class = inputs.shape[:2]
    labels = np.repeat(np.arange(classes, dtype=np.int32), per_class)
    return _mean_loss(network, params, inputs.reshape(classes * per_class, *inputs.shape[2:]), labels)


def real_examples(key: jax.Array, dataset: Dataset, per_class: int) -> jax.Array:
    """Draws some real examples of each class: the start of a synthetic set, and what to compare it with.

    Args:
      key: random key.
      dataset: the real data, with labels.
      per_class: how many, all different.

    Returns:
      float32[classes, per_class, ...].

    Raises:
      ValueError: if per_class is below 1 or above the size of the smallest class.

    Example:
      >>> from meta_train import data
      >>> real_examples(jax.random.key(0), data.load("digits"), per_class=2).shape
      (10, 2, 8, 8, 1)
    """
    data = by_class(dataset)
    if not 1 <= per_class <= data.rows.shape[1]:
        raise ValueError(
            f"per_class must lie between 1 and {data.rows.shape[1]}, the size of the smallest class, got {per_class}."
        )
    shuffled = jax.vmap(jax.random.permutation)(jax.random.split(key, len(data.rows)), data.rows)
    return jnp.asarray(data.inputs)[shuffled[:, :per_class]]


def by_class(dataset: Dataset) -> RealData:
    """Lists the rows of the training part by class.

    Raises:
      ValueError: if a class has no example, or the data set has no labels.
    """
    rows = [np.flatnonzero(dataset.train_y == label) for label in range(num_classes(dataset))]
    smallest = min(len(found) for found in rows)
    if smallest == 0:
        empty = [label for label, found in enumerate(rows) if len(found) == 0]
        raise ValueError(f"each class needs an example to train on, and {empty} have none: renumber the labels.")
    return RealData(dataset.train_x, dataset.train_y, np.stack([found[:smallest] for found in rows]).astype(np.int32))


def _mean_loss(network, params, inputs, labels):
    return jnp.mean(cross_entropy(network.apply(params, inputs), labels))
