"""Hierarchical MLP: a recurrent network on each tensor's statistics talks with the network that makes the steps.

Metz, Maheswaranathan, Freeman, Poole, Sohl-Dickstein 2020, "Tasks, stability, architecture, and compute: Training more
effective learned optimizers, and using them to train themselves", https://arxiv.org/abs/2009.11243

Features and epsilons are those of the authors' released code. Deviations:
- The loss on validation data is no input: an optax transformation does not get it. Without the training loss, 0 stands
  in for its feature; the released code needs it.
- The variance of the loss is taken about its bias-corrected mean. In the released code the mean is not corrected, so
  the first losses count as far away from it. The loss counts as ±1e15 at most, and v at most as 1e30; a loss that is
  not finite counts as the last one that was.
- The sign of the mean of v, which is always 1, is no input of the LSTM: with the above 16 features in place of 18.
- Dimensions beyond the fourth multiply the fourth in the LSTM's features of the shape; the released code drops them.
- NaN counts as 0 where tensors learn of each other, so that it does not reach other tensors.
- The features that all coordinates of a tensor share enter the first layer as a bias, and the normalising factors of
  the others multiply its weights; the function computed is the same.
"""

from collections.abc import Sequence
import functools
import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_optim import checks
from learned_optim import features
from learned_optim import networks
from learned_optim import tensor_features
from learned_optim.base import LearnedOptimizer
from learned_optim.base import Rule
from learned_optim.base import define
from learned_optim.base import momentum
from learned_optim.base import zeros

FEATURE_VERSION = 1
DECAYS = (0.5, 0.9, 0.99, 0.999, 0.9999)
NUM_FEATURES = 3 + 4 * len(DECAYS)  # of a coordinate
NUM_SHARED_FEATURES = len(features.TIME_SCALES) + 3  # of a tensor, for the per-parameter network
NUM_TENSOR_FEATURES = 16  # of a tensor, for the LSTM
LSTM_TO_MLP, LSTM_TO_LSTM, MLP_TO_LSTM = 17, 18, 16  # widths of what the networks tell each other
LOSS_DECAY = 0.9
MAX_LOSS = 1e15
CLIP_DECAY = 0.99
CLIP_FACTOR = 10.0


class Slots(NamedTuple):
    """State of a coordinate."""

    momenta: tuple[Any, ...]  # moving averages of the gradient, one for each decay
    moments: tuple[Any, ...]  # likewise of the squared gradient


class _Shared(NamedTuple):
    """State beyond the slots."""

    lstm: tensor_features.LSTMState  # one row for each tensor
    from_mlp: jax.Array  # float32[num_tensors, 16], the per-parameter network's messages, averaged over coordinates
    from_lstm: jax.Array  # float32[18], the LSTM's messages, averaged over tensors
    grad_size: jax.Array  # float32[], moving average of the root mean square of the gradient
    loss_count: jax.Array  # float32[], losses seen so far
    loss_mean: jax.Array  # float32[], bias-corrected moving average
    loss_variance: jax.Array  # float32[], bias-corrected moving average
    latest_loss: jax.Array  # float32[], the last one that was finite


def hierarchical_mlp(
    hidden_sizes: Sequence[int] = (32, 32),
    lstm_size: int = 64,
    *,
    step_multiplier: float = 1e-3,
    magnitude_multiplier: float = 1e-3,
) -> LearnedOptimizer:
    r"""Builds the hierarchical optimizer of a per-tensor LSTM and a per-parameter MLP.

    .. math:: \Delta p = -\lambda_1 \, d \, e^{\lambda_2 a}, \qquad (d, a, u) = \mathrm{MLP}(f, q), \qquad
      (q, w) = \mathrm{LSTM}(x, \bar u, \bar w)

    The 37 inputs f of a coordinate are g, p, log|p|, and, for decays .5, .9, .99, .999 and .9999, the momentum m, m/√v,
    v and 1/√v, each divided by its root mean square over the tensor; then sin(t / πs) for s = 1, 3, 10, …, 1e5 steps,
    and the logs of the number of tensors, of the tensor's norm and of its size. The 16 inputs x of the LSTM are log
    magnitudes (and signs, where they vary) of the mean and the variance of m, of v and of p, and of the norms of p and
    g, then the shape, and the loss in standard deviations from its moving average. ū is the message of the last step
    from the tensor's coordinates, averaged over them, and w̄ that from all tensors.

    An entry of the gradient counts at most as ten times a moving average of the gradient's root mean square, that of
    the first step as ±10.

    Args:
      hidden_sizes: widths of the hidden ReLU layers of the per-parameter network. The paper's are (32, 32).
      lstm_size: units of the LSTM.
      step_multiplier: λ₁, the scale of the direction output, in units of the parameters.
      magnitude_multiplier: λ₂, the scale of the log step size output.

    Returns:
      A `LearnedOptimizer`. Pass the loss as `value=` at every step. `num_steps` is accepted and not used: no feature
      depends on the horizon. State: ten float32 copies of the parameters, 2 * lstm_size + 16 numbers of each tensor, 23
      numbers and a step counter.

    Raises:
      ValueError: if hidden_sizes is empty or holds anything but whole numbers from 1 on, or if lstm_size is below 1.
      TypeError: if lstm_size is not a whole number.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> optimizer = hierarchical_mlp(hidden_sizes=(4,), lstm_size=8)
      >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)))
      >>> params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
      >>> updates, state = jax.jit(tx.update)(params, tx.init(params), params, value=1.5)
      >>> params = optax.apply_updates(params, updates)

    References:
      Metz et al. 2020, https://arxiv.org/abs/2009.11243
    """
    hidden_sizes = checks.sizes(hidden_sizes)
    lstm_size = checks.whole_number("lstm_size", lstm_size, 1)
    step_multiplier = checks.real_number("step_multiplier", step_multiplier)
    magnitude_multiplier = checks.real_number("magnitude_multiplier", magnitude_multiplier)
    network = networks.per_parameter_mlp(hidden_sizes, num_outputs=2 + MLP_TO_LSTM)
    lstm = networks.tensor_lstm(lstm_size, (LSTM_TO_MLP, LSTM_TO_LSTM), mixing=False)

    def init(key):
        network_key, lstm_key, mlp_message_key, lstm_message_key = jax.random.split(key, 4)
        arrays = [jnp.zeros((), jnp.float32)] * NUM_FEATURES
        shared = jnp.zeros((NUM_SHARED_FEATURES + LSTM_TO_MLP,), jnp.float32)
        inputs = jnp.zeros((1, NUM_TENSOR_FEATURES + MLP_TO_LSTM + LSTM_TO_LSTM), jnp.float32)
        first_state = tensor_features.init_lstm_state(lstm_size)
        return {
            "network": network.init(network_key, arrays, jnp.ones((NUM_FEATURES,), jnp.float32), shared),
            "lstm": lstm.init(lstm_key, inputs, tensor_features.first_lstm_state(first_state, num_rows=1)),
            "first_state": first_state,
            "first_from_mlp": _init_message(mlp_message_key, MLP_TO_LSTM),
            "first_from_lstm": _init_message(lstm_message_key, LSTM_TO_LSTM),
        }

    def rule(theta, horizon):
        del horizon

        def update(grads, params, slots, shared, step, loss):
            if not grads:
                return [], [], shared
            grads, shared = _clip(grads, shared, step)
            loss_feature, shared = _loss_feature(loss, shared)
            slots = [_accumulate(*tensor) for tensor in zip(grads, slots, strict=True)]
            x = _tensor_features(grads, params, slots, loss_feature, shared)
            (to_mlp, to_lstm), state = lstm.apply(theta["lstm"], x, shared.lstm)
            run = jnp.sin(step / (np.pi * np.asarray(features.TIME_SCALES)).astype(np.float32))
            run = jnp.append(run, math.log(len(grads)) - 1.0)
            updates, messages = [], []
            for tensor, own in zip(zip(grads, params, slots, strict=True), to_mlp, strict=True):
                arrays, mean_squares = _features(*tensor)
                sizes = [jnp.log(_norm(mean_squares[1], tensor[1].size) + 1e-8), math.log(tensor[1].size)]
                shared_inputs = jnp.concatenate([run, jnp.stack([jnp.asarray(x, jnp.float32) for x in sizes]), own])
                scales = jax.lax.rsqrt(1e-5 + mean_squares)
                apply = functools.partial(network.apply, theta["network"], scales=scales, shared=shared_inputs)
                direction, magnitude, *message = networks.in_blocks(apply, arrays, max(hidden_sizes))
                updates.append(-step_multiplier * direction * jnp.exp(magnitude_multiplier * magnitude))
                messages.append(jnp.mean(jnp.stack(message).reshape(MLP_TO_LSTM, -1), axis=1))
            shared = shared._replace(
                lstm=tensor_features.LSTMState(*state),
                from_mlp=jnp.stack(messages),
                from_lstm=jnp.mean(to_lstm, axis=0),
            )
            return updates, slots, shared

        def shared(params):
            zero = jnp.zeros((), jnp.float32)
            return _Shared(
                lstm=tensor_features.first_lstm_state(theta["first_state"], len(params)),
                from_mlp=jnp.broadcast_to(theta["first_from_mlp"], (len(params), MLP_TO_LSTM)),
                from_lstm=jnp.asarray(theta["first_from_lstm"]),
                grad_size=jnp.asarray(1.0 - CLIP_DECAY, jnp.float32),
                loss_count=zero,
                loss_mean=zero,
                loss_variance=zero,
                latest_loss=zero,
            )

        return Rule(Slots((momentum,) * len(DECAYS), (zeros,) * len(DECAYS)), update, shared)

    spec = {
        "kind": "hierarchical_mlp",
        "feature_version": FEATURE_VERSION,
        "hidden_sizes": list(hidden_sizes),
        "lstm_size": lstm_size,
        "step_multiplier": step_multiplier,
        "magnitude_multiplier": magnitude_multiplier,
    }
    return define(spec, init, rule)


def _init_message(key, size):
    return jax.random.truncated_normal(key, -2.0, 2.0, (size,), jnp.float32) / math.sqrt(size)


def _weight(decay, count):
    """The weight of `count` terms in a moving average: 1 - decay ** count."""
    return -jnp.expm1(count * math.log(decay))


def _clip(grads, shared, step):
    """The gradients within bounds that follow from those before, and the new moving average of their size."""
    bound = CLIP_FACTOR * shared.grad_size / _weight(CLIP_DECAY, step + 1.0)
    grads = [jnp.clip(grad, -bound, bound) for grad in grads]
    squares = tensor_features.without_nan(jnp.stack([features.mean_square(grad) for grad in grads]))
    size = jnp.sqrt(1e-8 + jnp.mean(squares))
    return grads, shared._replace(grad_size=shared.grad_size + (1.0 - CLIP_DECAY) * (size - shared.grad_size))


def _loss_feature(loss, shared):
    """The loss in standard deviations from its moving average, and the new averages. 0 without a finite loss so far."""
    if loss is None:
        return jnp.zeros((), jnp.float32), shared
    loss, given = tensor_features.last_finite(loss, shared.latest_loss, shared.loss_count)
    loss = jnp.clip(loss, -MAX_LOSS, MAX_LOSS)
    count = shared.loss_count + 1.0
    rate = jnp.where(count > 1.0, (1.0 - LOSS_DECAY) / _weight(LOSS_DECAY, count), 1.0)
    mean = shared.loss_mean + rate * (loss - shared.loss_mean)
    variance = shared.loss_variance + rate * (jnp.square(loss - mean) - shared.loss_variance)
    feature = jnp.clip((loss - mean) * jax.lax.rsqrt(variance + 1e-8), -5.0, 5.0)
    new = {"loss_count": count, "loss_mean": mean, "loss_variance": variance, "latest_loss": loss}
    kept = {name: jnp.where(given, value, getattr(shared, name)) for name, value in new.items()}
    return jnp.where(given, feature, 0.0), shared._replace(**kept)


def _accumulate(grad, slots):
    """Five momenta and five second moments after one more gradient."""
    moments = zip(slots.moments, DECAYS, strict=True)
    seconds = tuple(features.second_moment(grad, previous, decay) for previous, decay in moments)
    return Slots(features.momenta(grad, slots.momenta, DECAYS), seconds)


def _features(grad, param, slots):
    """The 23 features of a coordinate before they are normalised, and their mean squares."""
    momenta, seconds = slots
    rsqrt = [features.inverse_sqrt(v + 1e-6) for v in seconds]
    adam = [m * r for m, r in zip(momenta, rsqrt, strict=True)]
    arrays = [grad, param, jnp.log(jnp.abs(param) + 1e-8), *momenta, *adam, *seconds, *rsqrt]
    return arrays, jnp.stack([features.mean_square(x) for x in arrays])


def _norm(mean_square, size):
    return jnp.sqrt(mean_square) * math.sqrt(size)


def _tensor_features(grads, params, slots, loss_feature, shared):
    """The LSTM's inputs: float32[num_tensors, 50]."""
    reduced = [jnp.stack(_statistics(*tensor)) for tensor in zip(grads, params, slots, strict=True)]
    reduced = tensor_features.without_nan(jnp.stack(reduced))  # [num_tensors, 8]
    constant = np.stack([_shape_features(p.shape) for p in params])  # [num_tensors, 5]
    every = jnp.append(shared.from_lstm, loss_feature)  # [19], the same for all tensors
    return jnp.concatenate(
        [
            tensor_features.log_magnitude(reduced),
            jnp.sign(reduced[:, :2]),
            constant,
            tensor_features.without_nan(shared.from_mlp),
            jnp.broadcast_to(every, (len(params), *every.shape)),
        ],
        axis=1,
    )


def _statistics(grad, param, slots):
    """Means of m and p, which have a sign, then the mean of v, three variances and two norms."""
    mean = lambda arrays: sum(jnp.mean(x) for x in arrays) / float(len(arrays))
    variance = lambda arrays, center: mean([jnp.square(x - center) for x in arrays])
    momenta, seconds = slots
    means = mean(momenta), mean([param]), mean(seconds)
    variances = [variance(*pair) for pair in zip((momenta, [param], seconds), means, strict=True)]
    return *means, *variances, *(_norm(features.mean_square(x), x.size) for x in (param, grad))


def _shape_features(shape):
    """Whether the tensor is a scalar (1 or -1), then the logs of four dimensions, less 1."""
    first = shape[:3]
    dims = (*first, *(1,) * (3 - len(first)), math.prod(shape[3:]))
    return np.asarray([1.0 if not shape else -1.0, *(math.log(size) - 1.0 for size in dims)], np.float32)
