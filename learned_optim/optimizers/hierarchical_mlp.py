"""Hierarchical MLP: a recurrent network on each tensor's statistics exchanges messages with a per-parameter network.

Metz, Maheswaranathan, Freeman, Poole, Sohl-Dickstein 2020, "Tasks, stability, architecture, and compute: Training more
effective learned optimizers, and using them to train themselves", https://arxiv.org/abs/2009.11243

Updates equal those of the authors' released code while no validation loss is given to it. The tests compare them with a
float64 version of the equations that reproduces the released code's updates, for gradients from 1e-4 to 1e2 and for
coordinates that never have one. (Compiled by JAX 0.10, the released code itself gives NaN from the second step on; the
comparison is with what it gives uncompiled.) Deviations:
- The validation loss is not an input, because an optax transformation does not receive it. The released code then takes
  0 for it, in standard deviations of the training loss from its mean. So does this one. If the training loss is not
  given, both features are 0; the released code requires it.
- The loss is clipped to ±1e15, v is at most 1e30, and a loss that is not finite is replaced by the last finite one.
- In the LSTM's features of the shape, the fourth dimension is multiplied by all later ones; the released code drops
  them.
- NaN is replaced by 0 in the inputs that depend on other tensors, so that it does not spread.
- The features that all coordinates of a tensor share enter the first layer as a bias, and the normalizing factors of
  the others multiply its weights. The function computed is the same.

In the released code the averages of the loss and of its variance are corrected for their bias only after the variance
is taken, so the first losses count as far from their mean. Its weights were trained with that, so it is kept.
"""

from collections.abc import Sequence
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_optim import checks
from learned_optim import features
from learned_optim import hierarchical_features
from learned_optim import networks
from learned_optim import tensor_features
from learned_optim.base import LearnedOptimizer
from learned_optim.base import Rule
from learned_optim.base import define
from learned_optim.hierarchical_features import NUM_FEATURES
from learned_optim.hierarchical_features import NUM_TENSOR_FEATURES

FEATURE_VERSION = 2  # version 1 lacked two inputs of the LSTM, and had them in another order
NUM_SHARED_FEATURES = len(features.TIME_SCALES) + 3  # inputs of the per-parameter network that coordinates share
LSTM_TO_MLP, LSTM_TO_LSTM, MLP_TO_LSTM = 17, 18, 16  # widths of the messages between the networks


class Shared(NamedTuple):
    """State that all tensors share."""

    lstm: networks.LSTMState  # float32[num_tensors, lstm_size] each
    from_mlp: jax.Array  # float32[num_tensors, 16], messages of the per-parameter network, averaged over coordinates
    from_lstm: jax.Array  # float32[18], messages of the LSTM, averaged over tensors
    grad_size: jax.Array  # float32[], moving average of the root mean square of the gradient
    loss: hierarchical_features.LossStatistics


class _Networks(NamedTuple):
    """The networks and the arguments of the constructor that their use depends on."""

    mlp: networks.Network
    lstm: networks.Network
    widest: int  # width of the widest hidden layer of the MLP
    step_multiplier: float
    magnitude_multiplier: float


def hierarchical_mlp(
    hidden_sizes: Sequence[int] = (32, 32),
    lstm_size: int = 64,
    *,
    step_multiplier: float = 1e-3,
    magnitude_multiplier: float = 1e-3,
) -> LearnedOptimizer:
    r"""Builds the hierarchical optimizer with a per-tensor LSTM and a per-parameter MLP.

    .. math:: \Delta p = -\lambda_1 \, d \, e^{\lambda_2 a}, \qquad (d, a, u) = \mathrm{MLP}(f, q), \qquad
      (q, w) = \mathrm{LSTM}(x, \bar u, \bar w)

    The 37 inputs f of a coordinate are g, p, log|p|, and, for decays .5, .9, .99, .999 and .9999, the momentum m, v,
    m/√v and 1/√v, each divided by its root mean square over the tensor; then sin(t / πs) for s = 1, 3, 10, …, 1e5
    steps, and the logs of the number of tensors, of the tensor's norm and of its size. The 18 inputs x of the LSTM are
    log magnitudes (and signs) of the mean and the variance of m, of v and of p, and of the norms of p and g, the shape,
    and the loss and 0 in standard deviations of the loss from its moving average. ū is the message that the tensor's
    coordinates sent at the previous step, averaged over them. w̄ is the message of the LSTM at that step, averaged over
    all tensors.

    Gradients are clipped to ten times a moving average of their root mean square, at the first step to ±10.

    Args:
      hidden_sizes: widths of the hidden ReLU layers of the per-parameter network. The paper's are (32, 32).
      lstm_size: units of the LSTM.
      step_multiplier: λ₁, the scale of the direction output, in units of the parameters.
      magnitude_multiplier: λ₂, the scale of the log step size output.

    Returns:
      A `LearnedOptimizer`. Pass the loss as `value=` at every step. `num_steps` is accepted and not used: no feature
      depends on the horizon. State: ten float32 copies of the parameters, 2 * lstm_size + 16 numbers for each tensor,
      23 further numbers and a step counter.

    Raises:
      ValueError: if hidden_sizes is empty or contains anything but positive whole numbers, or if lstm_size is below 1.
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
    mlp = networks.per_parameter_mlp(hidden_sizes, num_outputs=2 + MLP_TO_LSTM)
    lstm = networks.tensor_lstm(lstm_size, (LSTM_TO_MLP, LSTM_TO_LSTM), mixing_layers=0)
    parts = _Networks(mlp, lstm, max(hidden_sizes), step_multiplier, magnitude_multiplier)

    def init(key):
        return _init_theta(parts, lstm_size, key)

    def rule(theta, horizon):
        del horizon

        def update(grads, params, slots, shared, step, loss):
            if not grads:
                return [], [], shared
            return _update(parts, theta, grads, params, slots, shared, step, loss)

        def shared(params):
            return _first_shared(theta, len(params))

        return Rule(hierarchical_features.SLOTS, update, shared)

    spec = {
        "kind": "hierarchical_mlp",
        "feature_version": FEATURE_VERSION,
        "hidden_sizes": list(hidden_sizes),
        "lstm_size": lstm_size,
        "step_multiplier": step_multiplier,
        "magnitude_multiplier": magnitude_multiplier,
    }
    return define(spec, init, rule)


def _init_theta(parts, lstm_size, key):
    network_key, lstm_key, mlp_message_key, lstm_message_key = jax.random.split(key, 4)
    arrays = [jnp.zeros((), jnp.float32)] * NUM_FEATURES
    shared = jnp.zeros((NUM_SHARED_FEATURES + LSTM_TO_MLP,), jnp.float32)
    inputs = jnp.zeros((1, NUM_TENSOR_FEATURES + MLP_TO_LSTM + LSTM_TO_LSTM), jnp.float32)
    first_state = tensor_features.init_lstm_state(lstm_size)
    return {
        "network": parts.mlp.init(network_key, arrays, jnp.ones((NUM_FEATURES,), jnp.float32), shared),
        "lstm": parts.lstm.init(lstm_key, inputs, tensor_features.first_lstm_state(first_state, num_rows=1)),
        "first_state": first_state,
        "first_from_mlp": _init_message(mlp_message_key, MLP_TO_LSTM),
        "first_from_lstm": _init_message(lstm_message_key, LSTM_TO_LSTM),
    }


def _init_message(key, size):
    return jax.random.truncated_normal(key, -2.0, 2.0, (size,), jnp.float32) / math.sqrt(size)


def _first_shared(theta, num_tensors):
    return Shared(
        lstm=tensor_features.first_lstm_state(theta["first_state"], num_tensors),
        from_mlp=jnp.broadcast_to(theta["first_from_mlp"], (num_tensors, MLP_TO_LSTM)),
        from_lstm=jnp.asarray(theta["first_from_lstm"]),
        grad_size=jnp.asarray(1.0 - hierarchical_features.CLIP_DECAY, jnp.float32),
        loss=hierarchical_features.first_loss_statistics(),
    )


def _update(parts, theta, grads, params, slots, shared, step, loss):
    """The LSTM on all tensors, then the per-parameter network on each."""
    grads, grad_size = hierarchical_features.clip(grads, shared.grad_size, step)
    losses, loss_statistics = hierarchical_features.loss_features(loss, shared.loss)
    slots = [hierarchical_features.accumulate(*tensor) for tensor in zip(grads, slots, strict=True)]
    inputs = hierarchical_features.lstm_inputs(
        grads, params, slots, losses=losses, from_mlp=shared.from_mlp, from_lstm=shared.from_lstm
    )
    (to_mlp, to_lstm), lstm_state = parts.lstm.apply(theta["lstm"], inputs, shared.lstm)
    run = jnp.sin(step / (np.pi * np.asarray(features.TIME_SCALES)).astype(np.float32))
    run = jnp.append(run, math.log(len(grads)) - 1.0)
    updates, messages = [], []
    for grad, param, slot, to_tensor in zip(grads, params, slots, to_mlp, strict=True):
        update, message = _update_tensor(parts, theta["network"], grad, param, slot, run, to_tensor)
        updates.append(update)
        messages.append(message)
    new_shared = Shared(lstm_state, jnp.stack(messages), jnp.mean(to_lstm, axis=0), grad_size, loss_statistics)
    return updates, slots, new_shared


def _update_tensor(parts, theta, grad, param, slots, run, to_tensor):
    """The update of a tensor, and its message float32[16].

    `run` are features that all tensors share, `to_tensor` is the LSTM's message to this tensor.
    """
    arrays, mean_squares = hierarchical_features.coordinates(grad, param, slots)
    norm = hierarchical_features.norm(mean_squares.param, param.size)
    sizes = jnp.stack([jnp.log(norm + 1e-8), jnp.asarray(math.log(param.size), jnp.float32)])
    shared = jnp.concatenate([run, sizes, to_tensor])
    scales = jax.lax.rsqrt(1e-5 + jnp.stack(jax.tree.leaves(mean_squares)))
    apply = lambda arrays: parts.mlp.apply(theta, jax.tree.leaves(arrays), scales, shared)
    direction, magnitude, *message = networks.in_blocks(apply, arrays, parts.widest)
    update = -parts.step_multiplier * direction * jnp.exp(parts.magnitude_multiplier * magnitude)
    return update, jnp.mean(jnp.stack(message).reshape(MLP_TO_LSTM, -1), axis=1)
