"""A distribution of linear models without any data set, in one compiled program: quadratics, least squares, logistic
regressions and linear networks of two layers, of any condition number, size and noise.

The design matrix is made of Hadamard matrices with random signs. Its products are known exactly, so that an episode has
exactly the condition number that it drew, and it is never stored: a few vectors stand for it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.tasks import variation as varied
from meta_train.tasks.base import Task
from meta_train.tasks.base import log_normalizer
from meta_train.tasks.broad_draws import first
from meta_train.tasks.broad_draws import integer
from meta_train.tasks.broad_draws import log_uniform
from meta_train.tasks.variation import FIXED
from meta_train.tasks.variation import Variation

SIZE, NUM_OUTPUTS, NUM_ROWS = 64, 8, 128
_EIGHT = np.array([[(-1.0) ** bin(i & j).count("1") for j in range(8)] for i in range(8)], np.float32)
_HADAMARD = np.kron(_EIGHT, _EIGHT)  # of Sylvester, rows of ±1 that are orthogonal


class LinearDraw(NamedTuple):
    """What an episode drew."""

    curvature: jax.Array  # float32[64], eigenvalues of the mean of a aᵀ over the rows a; mean 1 over those that count
    size: jax.Array  # int32[], inputs that count, the first ones
    rotated: jax.Array  # bool[], whether the eigenvectors are not the axes
    signs: jax.Array  # float32[2, 64], ±1, of the two halves of the rows
    target: jax.Array  # float32[128, 8], of each row
    num_outputs: jax.Array  # int32[], outputs that count, the first ones
    squared: jax.Array  # bool[], whether the loss is the squared error; else the cross-entropy
    vector: jax.Array  # bool[], whether the vector x is what is learned, and the only output that is not 0 the first
    product: jax.Array  # bool[], whether a product of two matrices is learned; else, if not a vector, one matrix
    init_scale: jax.Array  # float32[], standard deviation of the first outputs
    ridge: jax.Array  # float32[], factor on half the sum of the squares of the parameters
    batch: jax.Array  # float32[], share of the rows in a minibatch; 1: all, without noise
    scale: jax.Array  # float32[], about the first loss


def broad_linear(name: str = "broad-linear", *, variation: Variation = FIXED) -> Task:
    """Builds the task of fitting a linear model, whose kind, condition and size each episode draws.

    A third of the episodes each learn a vector x[64], a matrix[64, 8], or a product [64, 8] × [8, 8]; half of them by
    squared error, and the others by cross-entropy, for a vector that of two classes. 8 to 64 inputs count. The mean of
    a aᵀ over the rows a has a condition number of 1 to 1e5, log-uniformly; in half of the episodes its eigenvectors are
    not the axes: they mix all 64 inputs, or groups of eight if fewer count. In half of the episodes targets have noise
    of .03 to 1 standard deviations. In half of them a minibatch has each of the 128 rows with a chance of 6 % to 100 %,
    and else all: the gradient is exact. In a third there is a penalty on the squares of the parameters with a factor of
    1e-5 to .1. First outputs have a standard deviation of .1 to 3, that of the targets without noise is 1.

    What does not count has values and gradients of exactly 0.

    Args:
      name: the task's name.
      variation: scales of the initial parameters and of the loss.

    Returns:
      A `Task` without data. `Task.loss_scale` tells about the first loss of an episode, by which its loss is to be
      divided: for the squared error the variance of the targets and of the first outputs together, for the
      cross-entropy the log of the number of classes. `evaluate` gives the loss on all rows with the penalty, whose
      minimum is what an exact method would find, in that unit.

    Raises:
      ValueError: if a range of variation is impossible.

    Example:
      >>> broad_linear().data
      ()
    """
    varied.check(variation, has_data=False, has_targets=False)

    def loss(params, key, data, config):
        del data
        counted = (jax.random.uniform(key, (NUM_ROWS,)) < config.batch).astype(jnp.float32)
        losses = _losses(params, config)
        return jnp.sum(counted * losses) / jnp.maximum(jnp.sum(counted), 1.0) + _penalty(params, config)

    def evaluate(params, key, data, config):
        del key, data
        return {"loss": (jnp.mean(_losses(params, config)) + _penalty(params, config)) / config.scale}

    normalize, loss_scale = log_normalizer(1.0), lambda config: config.scale
    task = Task(name, (), _sample, _init, loss, evaluate, normalize, loss_scale=loss_scale)
    return varied.vary_scales(task, variation)


def _sample(key):
    normal_key, key = jax.random.split(key)
    numbers = jax.random.uniform(key, (15 + 3 * SIZE,))
    u, order, signs = iter(numbers[:15]), numbers[15 : 15 + SIZE], numbers[15 + SIZE :].reshape(2, SIZE)
    size = 8 * integer(next(u), 1, 8)
    # Eigenvalues in equal ratios, in random order.
    count = size.astype(jnp.float32)
    there = first(SIZE, size)
    order = jnp.where(there, order, 2.0)
    rank = jnp.sum(order[None, :] < order[:, None], axis=1).astype(jnp.float32)
    curvature = jnp.where(there, jnp.exp(-jnp.log(log_uniform(next(u), 1.0, 1e5)) * rank / (count - 1.0)), 0.0)
    curvature = curvature * count / jnp.sum(curvature)
    kind, squared = integer(next(u), 0, 2), next(u) < 0.5
    vector, product = kind == 0, kind == 2
    num_outputs = jnp.where(vector, jnp.where(squared, 1, 2), integer(next(u), 2, NUM_OUTPUTS))
    # The solution, in the basis of the eigenvectors: between equal parts, and equal parts of the loss.
    normal = jax.random.normal(normal_key, (SIZE + NUM_ROWS, NUM_OUTPUTS))
    solution = normal[:SIZE] * jnp.where(there, jnp.maximum(curvature, 1e-9) ** (-0.5 * next(u)), 0.0)[:, None]
    outputs = jnp.sqrt(curvature)[:, None] * solution
    outputs = outputs / jnp.sqrt(jnp.sum(jnp.square(outputs), axis=0))
    noise = jnp.where(next(u) < 0.5, log_uniform(next(u), 0.03, 1.0), 0.0)
    signs = jnp.where(signs < 0.5, -1.0, 1.0)
    init_scale = log_uniform(next(u), 0.1, 3.0)
    log_classes = jnp.log(num_outputs.astype(jnp.float32))
    return LinearDraw(
        curvature=curvature,
        size=size,
        rotated=next(u) < 0.5,
        signs=signs,
        target=_rows(outputs, signs) + noise * normal[SIZE:],
        num_outputs=num_outputs,
        squared=squared,
        vector=vector,
        product=product,
        init_scale=init_scale,
        ridge=jnp.where(next(u) < 1 / 3, log_uniform(next(u), 1e-5, 0.1), 0.0),
        batch=jnp.where(next(u) < 0.5, log_uniform(next(u), 0.06, 1.0), 1.0),
        scale=jnp.where(squared, 1.0 + jnp.square(noise) + jnp.square(init_scale), log_classes),
    )


def _init(key, config):
    normal = jax.random.normal(key, (SIZE + NUM_OUTPUTS, NUM_OUTPUTS))
    there, outputs = first(SIZE, config.size), first(NUM_OUTPUTS, config.num_outputs)
    inputs = jnp.where(there[:, None], config.init_scale / jnp.sqrt(config.size.astype(jnp.float32)), 0.0)
    matrix = inputs * normal[:SIZE]
    second = normal[SIZE:] / NUM_OUTPUTS**0.5
    return {
        "x": jnp.where(config.vector, matrix[:, 0], 0.0),
        "matrix": jnp.where(~config.vector & (config.product | outputs), matrix, 0.0),
        "second": jnp.where(config.product & outputs, second, 0.0),
    }


def _outputs(params, config):
    """The outputs of all rows, float32[128, 8]."""
    outputs = first(NUM_OUTPUTS, config.num_outputs)
    single = jnp.pad(params["x"][:, None], ((0, 0), (0, NUM_OUTPUTS - 1)))
    weights = jnp.where(config.product, params["matrix"] @ params["second"], params["matrix"])
    weights = jnp.where(outputs, jnp.where(config.vector, single, weights), 0.0)
    return _rows(jnp.sqrt(config.curvature)[:, None] * _turned(weights, config), config.signs)


def _turned(weights, config):
    """The weights in the basis of the eigenvectors."""
    eight = jnp.asarray(_EIGHT, weights.dtype) / 8**0.5
    groups = jnp.einsum("ij,ajk->aik", eight, weights.reshape(8, 8, -1))
    wholly = jnp.einsum("ab,bik->aik", eight, groups)
    turned = jnp.where(config.size == SIZE, wholly, groups).reshape(weights.shape)
    return jnp.where(config.rotated, turned, weights)


def _rows(weights, signs):
    """Products of the rows ±1 with the weights: the mean of their squares is the sum of the weights' squares."""
    return (jnp.asarray(_HADAMARD, weights.dtype) @ (signs[:, :, None] * weights)).reshape(NUM_ROWS, -1)


def _losses(params, config):
    """The loss of each row, float32[128]."""
    outputs, counted = _outputs(params, config), first(NUM_OUTPUTS, config.num_outputs)
    squares = jnp.where(counted, jnp.square(outputs - config.target), 0.0)
    of_squares = jnp.sum(squares, axis=1) / config.num_outputs.astype(outputs.dtype)
    label = jnp.argmax(jnp.where(counted, config.target, -jnp.inf), axis=1)
    chosen = jnp.arange(NUM_OUTPUTS, dtype=label.dtype) == label[:, None]
    logits = jnp.where(counted, outputs, -jnp.inf)
    of_label = jax.nn.logsumexp(logits, axis=1) - jnp.sum(jnp.where(chosen, outputs, 0.0), axis=1)
    return jnp.where(config.squared, of_squares, of_label)


def _penalty(params, config):
    return 0.5 * config.ridge * sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params))
