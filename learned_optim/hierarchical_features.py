"""Features of `hierarchical_mlp`: those of a coordinate, those of a tensor for the LSTM, and that of the loss.

Metz, Maheswaranathan, Freeman, Poole, Sohl-Dickstein 2020, "Tasks, stability, architecture, and compute: Training more
effective learned optimizers, and using them to train themselves", https://arxiv.org/abs/2009.11243

The architecture's file, `learned_optim.optimizers.hierarchical_mlp`, lists the deviations.
"""

from collections.abc import Sequence
import functools
import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_optim import features
from learned_optim import tensor_features
from learned_optim.rule import momentum
from learned_optim.rule import zeros

DECAYS = (0.5, 0.9, 0.99, 0.999, 0.9999)
LOSS_DECAY = 0.9
MAX_LOSS = 1e15
CLIP_DECAY = 0.99
CLIP_FACTOR = 10.0


class Slots(NamedTuple):
    """State of a coordinate."""

    momenta: tuple[Any, ...]  # moving averages of the gradient, one for each decay
    moments: tuple[Any, ...]  # moving averages of the squared gradient, one for each decay


SLOTS = Slots((momentum,) * len(DECAYS), (zeros,) * len(DECAYS))


class LossStatistics(NamedTuple):
    """Moving averages of the loss."""

    count: jax.Array  # float32[], number of losses seen so far
    mean: jax.Array  # float32[], not corrected for its bias
    variance: jax.Array  # float32[] about that mean, not corrected either
    latest: jax.Array  # float32[], the last finite loss


class CoordinateFeatures(NamedTuple):
    """Features of the coordinates of a tensor, in the order of the network's inputs."""

    grad: jax.Array
    param: jax.Array
    log_param: jax.Array  # log|p|
    momenta: Sequence[jax.Array]  # m, one for each decay, like the next three
    moments: Sequence[jax.Array]  # v
    adam: Sequence[jax.Array]  # m/√v
    rsqrts: Sequence[jax.Array]  # 1/√v


NUM_FEATURES = 3 + 4 * len(DECAYS)  # arrays in `CoordinateFeatures`


class Statistics(NamedTuple):
    """Statistics of a tensor, float32[] each. Means and variances of m and of v are averaged over the decays."""

    mean_momentum: jax.Array
    mean_param: jax.Array
    mean_moment: jax.Array
    variance_momentum: jax.Array
    variance_param: jax.Array
    variance_moment: jax.Array
    norm_param: jax.Array
    norm_grad: jax.Array


NUM_TENSOR_FEATURES = 18  # `Statistics`, three signs, five features of the shape, and two of the loss


def clip(grads: Sequence[jax.Array], grad_size: jax.Array, step: jax.Array) -> tuple[list[jax.Array], jax.Array]:
    """Clips gradients to ±10 times a moving average of their root mean square.

    Args:
      grads: the gradients of all tensors.
      grad_size: the moving average before these gradients, float32[].
      step: number of updates made so far, float32[].

    Returns:
      The clipped gradients and the moving average after them.
    """
    bound = CLIP_FACTOR * grad_size / _weight(CLIP_DECAY, step + 1.0)
    clipped = [jnp.clip(grad, -bound, bound) for grad in grads]
    squares = tensor_features.without_nan(jnp.stack([features.mean_square(grad) for grad in clipped]))
    size = jnp.sqrt(1e-8 + jnp.mean(squares))
    return clipped, grad_size + (1.0 - CLIP_DECAY) * (size - grad_size)


def first_loss_statistics() -> LossStatistics:
    """The averages before the first loss."""
    zero = jnp.zeros((), jnp.float32)
    return LossStatistics(zero, zero, zero, zero)


def loss_features(loss: jax.Array | None, statistics: LossStatistics) -> tuple[jax.Array, LossStatistics]:
    """Returns the loss and 0, in standard deviations from the moving average of the loss, and the new averages.

    0 stands for the validation loss, which is never known. The features are 0 as long as there was no finite loss. A
    loss that is not finite is replaced by the last finite one.

    Args:
      loss: float32[], or None if it is not known.
      statistics: the averages before this loss.

    Returns:
      float32[2], clipped to ±5, and the averages after this loss.
    """
    if loss is None:
        return jnp.zeros((2,), jnp.float32), statistics
    loss, given = tensor_features.last_finite(loss, statistics.latest, statistics.count)
    loss = jnp.clip(loss, -MAX_LOSS, MAX_LOSS)
    count = statistics.count + 1.0
    mean = LOSS_DECAY * statistics.mean + (1.0 - LOSS_DECAY) * loss
    variance = LOSS_DECAY * statistics.variance + (1.0 - LOSS_DECAY) * jnp.square(mean - loss)
    weight = _weight(LOSS_DECAY, count) + 1e-8
    distances = jnp.stack([loss, jnp.zeros_like(loss)]) - mean / weight
    found = jnp.clip(distances * jax.lax.rsqrt(variance / weight + 1e-8), -5.0, 5.0)
    updated = LossStatistics(count, mean, variance, latest=loss)
    kept = jax.tree.map(lambda new, old: jnp.where(given, new, old), updated, statistics)
    return jnp.where(given, found, 0.0), kept


def accumulate(grad: jax.Array, slots: Slots) -> Slots:
    """Returns the momenta and second moments after one more gradient."""
    moments = zip(slots.moments, DECAYS, strict=True)
    new_moments = tuple(features.second_moment(grad, previous, decay) for previous, decay in moments)
    return Slots(features.momenta(grad, slots.momenta, DECAYS), new_moments)


def coordinates(grad: jax.Array, param: jax.Array, slots: Slots) -> tuple[CoordinateFeatures, CoordinateFeatures]:
    """Returns the 23 features of a coordinate before they are normalized, and the mean square of each, float32[]."""
    rsqrts = [features.inverse_sqrt(v + 1e-6) for v in slots.moments]
    arrays = CoordinateFeatures(
        grad=grad,
        param=param,
        log_param=jnp.log(jnp.abs(param) + 1e-8),
        momenta=list(slots.momenta),
        moments=list(slots.moments),
        adam=[m * r for m, r in zip(slots.momenta, rsqrts, strict=True)],
        rsqrts=rsqrts,
    )
    return arrays, jax.tree.map(features.mean_square, arrays)


def norm(mean_square: jax.Array, size: int) -> jax.Array:
    """The Euclidean norm of a tensor of `size` elements."""
    return jnp.sqrt(mean_square) * math.sqrt(size)


def lstm_inputs(
    grads: Sequence[jax.Array],
    params: Sequence[jax.Array],
    slots: Sequence[Slots],
    *,
    losses: jax.Array,
    from_mlp: jax.Array,
    from_lstm: jax.Array,
) -> jax.Array:
    """Returns the inputs of the LSTM.

    Args:
      grads: the gradient of each tensor.
      params: the tensors.
      slots: the slots of each tensor, after these gradients.
      losses: the features of the loss, float32[2].
      from_mlp: messages to each tensor, float32[num_tensors, num_from_mlp].
      from_lstm: messages to all tensors, float32[num_from_lstm].

    Returns:
      float32[num_tensors, 18 + num_from_mlp + num_from_lstm], in the order of the released code, which sorts its
      inputs by name. NaN in `from_mlp` and in the statistics of tensors is replaced by 0.
    """
    rows = [_statistics(*tensor) for tensor in zip(grads, params, slots, strict=True)]
    statistics = Statistics(*(tensor_features.without_nan(jnp.stack(column)) for column in zip(*rows, strict=True)))
    magnitude = jax.tree.map(tensor_features.log_magnitude, statistics)
    shapes = np.stack([_shape_features(param.shape) for param in params])  # [num_tensors, 5]
    every = lambda x: jnp.broadcast_to(x, (len(params), *x.shape))  # the same for all tensors
    columns = [
        magnitude.norm_grad,
        shapes[:, 0],
        magnitude.mean_momentum,
        jnp.sign(statistics.mean_momentum),
        magnitude.mean_moment,
        jnp.sign(statistics.mean_moment),
        magnitude.mean_param,
        jnp.sign(statistics.mean_param),
        magnitude.norm_param,
        *shapes[:, 1:].T,
        *every(losses).T,
        magnitude.variance_momentum,
        magnitude.variance_moment,
        magnitude.variance_param,
    ]
    return jnp.concatenate(
        [every(from_lstm), tensor_features.without_nan(from_mlp), jnp.stack(columns, axis=1)], axis=1
    )


def _statistics(grad, param, slots):
    """The `Statistics` of one tensor."""
    mean = lambda arrays: functools.reduce(jnp.add, [jnp.mean(x) for x in arrays]) / float(len(arrays))
    variance = lambda arrays, center: mean([jnp.square(x - center) for x in arrays])
    mean_momentum, mean_param, mean_moment = mean(slots.momenta), mean([param]), mean(slots.moments)
    return Statistics(
        mean_momentum=mean_momentum,
        mean_param=mean_param,
        mean_moment=mean_moment,
        variance_momentum=variance(slots.momenta, mean_momentum),
        variance_param=variance([param], mean_param),
        variance_moment=variance(slots.moments, mean_moment),
        norm_param=norm(features.mean_square(param), param.size),
        norm_grad=norm(features.mean_square(grad), grad.size),
    )


def _shape_features(shape):
    """1 for a scalar or -1, then log(size) - 1 of four dimensions. The fourth is the product of all from there on."""
    first = shape[:3]
    dims = (*first, *(1,) * (3 - len(first)), math.prod(shape[3:]))
    return np.asarray([1.0 if not shape else -1.0, *(math.log(size) - 1.0 for size in dims)], np.float32)


def _weight(decay, count):
    """The total weight of `count` terms in a moving average, 1 - decay ** count."""
    return -jnp.expm1(count * math.log(decay))
