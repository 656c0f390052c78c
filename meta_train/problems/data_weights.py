"""Weights of the training examples as theta, one free parameter each.

Ren, Zeng, Yang, Urtasun 2018, "Learning to Reweight Examples for Robust Deep Learning",
https://arxiv.org/abs/1803.09050

Deviation: the paper draws the weights of a minibatch anew at each step from one gradient step; here they are kept, and
an outer optimizer moves them.
"""

import jax

from meta_train.few_shot.base import Network
from meta_train.problems.trusted_data import ExampleLossesFn
from meta_train.problems.trusted_data import TrustedData
from meta_train.problems.trusted_data import judged_by_trusted
from meta_train.problems.trusted_data import weighted_mean
from meta_train.tasks.prediction import cross_entropy
from meta_train.unroll.problem import Bilevel


def data_weights(
    data: TrustedData, network: Network, *, batch_size: int = 128, losses: ExampleLossesFn = cross_entropy
) -> Bilevel:
    r"""Builds the problem of training examples' weights, so that the network does well on trusted examples.

    .. math:: L(w, \theta) = \frac{\sum_i \sigma(\theta_i) \, \ell_i(w)}{\sum_i \sigma(\theta_i)}

    over the examples i of a minibatch. Theta is float[n], a number for each training example; with zeros to begin with
    all weigh the same.

    Args:
      data: the training examples, and the trusted ones whose mean loss is the outer loss.
      network: for their inputs.
      batch_size: of both losses, drawn with replacement. With one as large as a set, all its examples, in order.
      losses: of examples.

    Returns:
      A `Bilevel`.

    Raises:
      ValueError: if batch_size is below 1.

    Example: the third label is wrong, and the gradient, which descent goes against, takes its weight away alone.
      >>> import jax.numpy as jnp, numpy as np, optax
      >>> from meta_train import estimators, few_shot
      >>> x, y = np.array([[-1.0], [1.0], [2.0]], np.float32), np.array([0, 1, 0], np.int32)
      >>> data = TrustedData(x, y, x[:2], y[:2])
      >>> bilevel = data_weights(data, few_shot.perceptron(2, ()), batch_size=3)
      >>> estimator = estimators.implicit(
      ...     bilevel, inner_optimizer=optax.sgd(1.0), inner_steps=200, solver=estimators.linear_solvers.identity())
      >>> theta = jnp.zeros(3)
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> gradient, _, _ = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
      >>> (gradient > 0).tolist()
      [False, False, True]

    References:
      Ren et al. 2018, https://arxiv.org/abs/1803.09050
    """

    def training_loss(theta, apply, rows, inputs, targets):
        return weighted_mean(losses(apply(inputs), targets), jax.nn.sigmoid(theta[rows]))

    return judged_by_trusted(data, network, training_loss, name="data-weights", batch_size=batch_size, losses=losses)
