"""Architectures as theta: logits that mix all operations of a cell, learned on a validation set.

Liu, Simonyan, Yang 2019, "DARTS: Differentiable Architecture Search", https://arxiv.org/abs/1806.09055
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from meta_train.problems.cell import CellSpace
from meta_train.problems.cell_network import CellNetwork
from meta_train.problems.trusted_data import TrustedData
from meta_train.tasks.prediction import cross_entropy
from meta_train.unroll.problem import Bilevel

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float


def architecture(data: TrustedData, network: CellNetwork, *, batch_size: int = 64) -> Bilevel:
    r"""Builds the problem of a cell's architecture, with all of its operations mixed.

    .. math:: \min_\theta L_V(w^*(\theta), \theta), \qquad w^*(\theta) = \arg\min_w L(w, \theta)

    where edge e makes :math:`\sum_k \mathrm{softmax}(\theta_e)_k \, o_k(x)` of a node's features x. Theta is
    float[edges, choices], such as `even_logits` to begin with; `discretize` makes a cell of it.

    Args:
      data: training examples, on which the parameters are trained, and trusted ones, which judge the architecture. The
        paper takes halves of the training set: `trusted_data(dataset, num_trusted=len(dataset.train_x) // 2)`.
      network: for their pictures.
      batch_size: of both losses, drawn with replacement.

    Returns:
      A `Bilevel`. `estimators.darts` is the paper's estimator of both orders, `estimators.implicit` another one.

    Raises:
      ValueError: if batch_size is below 1.

    Example:
      >>> from meta_train import data, problems
      >>> digits = problems.trusted_data(data.load("digits", size=4), num_trusted=700)
      >>> space = problems.cell_space(problems.picture_operations()[:3], num_nodes=1)
      >>> bilevel = architecture(digits, problems.cell_network(space, 10, channels=4, num_cells=1))
      >>> theta = even_logits(space)
      >>> params = bilevel.init(jax.random.key(0), theta)
      >>> bool(1 < jax.jit(bilevel.outer_loss)(params, theta, jax.random.key(1), bilevel.data) < 4)  # about log 10
      True

    References:
      Liu et al. 2019, https://arxiv.org/abs/1806.09055
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")

    def loss(params, theta, key, inputs, labels):
        rows = jax.random.randint(key, (batch_size,), 0, len(inputs), jnp.int32)
        outputs = network.apply(params, jax.nn.softmax(theta, axis=-1), inputs[rows])
        return jnp.mean(cross_entropy(outputs, labels[rows]))

    example = data.train_x[:1]
    return Bilevel(
        inner_loss=lambda params, theta, key, data: loss(params, theta, key, data.train_x, data.train_y),
        outer_loss=lambda params, theta, key, data: loss(params, theta, key, data.trusted_x, data.trusted_y),
        init=lambda key, theta: network.init(key, example),
        data=data,
        name="architecture",
    )


def even_logits(space: CellSpace) -> Float[Array, "edges choices"]:
    """Logits, float32[edges, choices], that weigh all choices alike: where a search begins.

    Example:
      >>> from meta_train.problems import cell_space, picture_operations
      >>> even_logits(cell_space(picture_operations(), num_nodes=2)).shape
      (3, 6)
    """
    return jnp.zeros((len(space.edges), space.num_choices))
