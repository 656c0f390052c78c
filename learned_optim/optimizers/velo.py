"""VeLO: a recurrent network sees statistics of each tensor and composes its update network from a bank of networks.

Metz, Harrison, Freeman, Merchant, Beyer, Bradbury, Agrawal, Poole, Mordatch, Roberts, Sohl-Dickstein 2022, "VeLO:
Training Versatile Learned Optimizers by Scaling Up", https://arxiv.org/abs/2211.09760

Updates equal those of the authors' released code. The tests compare them with a float64 version of the equations that
reproduces the released code's updates: for tensors of all ranks, for gradients from 1e-4 to 1e4, for coordinates that
never have a gradient, and for the released code's two older variants. Deviations, none of which changes an update in
ordinary use:
- If the number of steps or the loss is not known, learned constants replace the features (`tensor_features.schedule`).
- NaN is replaced by 0 in the tensor features, so that it does not reach other tensors. Second moments, rows, columns
  and mean squares are bounded, so that they stay finite.
- The released code has one more mixing layer, whose result it never uses, and a third output of the banked networks,
  likewise. Its optional input that says whether the validation loss is the target, off by default, is left out.

Two properties of the released code look like mistakes. Its weights were trained with them, so they are kept: the
variance of v is taken about the mean of each momentum, and the bound on the loss corrects its averages for one loss too
many.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_optim import checks
from learned_optim import factored_features
from learned_optim import factored_moments
from learned_optim import factored_step
from learned_optim import features
from learned_optim import networks
from learned_optim import tensor_features
from learned_optim.base import LearnedOptimizer
from learned_optim.base import Rule
from learned_optim.base import define

FEATURE_VERSION = 2  # version 1 deviated from the released code in the tensor features, the mixing and the bank's scale
MAX_RANK = 4
NUM_STATISTICS = 7  # log magnitudes of the `Statistics`, but for the size, their unit
NUM_TENSOR_FEATURES = tensor_features.NUM_SCHEDULE_FEATURES + NUM_STATISTICS + MAX_RANK + 1


class Statistics(NamedTuple):
    """Statistics of tensors before this gradient, float32[num_tensors] each."""

    square: jax.Array  # mean square of the parameter
    moment_mean: jax.Array  # of v
    momentum_variances: tuple[jax.Array, ...]  # 3, one for each decay
    moment_distances: tuple[jax.Array, ...]  # 3, the mean of (v - mean m)² for each momentum m


def velo(
    hidden_sizes: Sequence[int] = (4, 4),
    lstm_size: int = 512,
    num_networks: int = 256,
    *,
    step_multiplier: float = 1e-3,
    magnitude_multiplier: float = 1e-3,
    bank_multiplier: float = 100.0,
    fixed_state: bool = False,
    equal_loss_averages: bool = False,
) -> LearnedOptimizer:
    r"""Builds the VeLO optimizer.

    .. math::
      \Delta p = -s \, \lambda_1 \, d \, e^{\lambda_2 a} \, r(p), \qquad
      (d, a) = \mathrm{MLP}(f; \textstyle\frac{100}{N} \sum_k c_k W_k), \qquad (c, s) = \mathrm{LSTM}(x)

    The inputs f of a coordinate are the 28 features of `factored_mlp` that do not depend on time, the gradient
    clipped to ±.1, and g/√v, each divided by its root mean square over the tensor; r(p) is the root mean square of
    the tensor. Gradients are clipped to ±1000.

    The LSTM has one state for each tensor. A layer before it mixes the inputs of all tensors. A tensor has 30 inputs x:
    nine features of the progress through the run and nine of the loss (`learned_optim.tensor_features.schedule`), the
    log magnitude of the mean of v, the number of dimensions larger than 1, one-hot (0 to 4; all zero above), and log
    magnitudes of the variances of the three momenta and of the mean squares of v minus the mean of each momentum. These
    are of the moments before this gradient, divided by r(p).

    Args:
      hidden_sizes: widths of the hidden ReLU layers of the banked networks. The paper's are (4, 4).
      lstm_size: units of the LSTM.
      num_networks: networks in the bank.
      step_multiplier: λ₁, the scale of the direction output.
      magnitude_multiplier: λ₂, the scale of the log step size output.
      bank_multiplier: the factor 100 on the mean of the weighted networks. Some weights of the authors of Celo need 1.
      fixed_state: whether the LSTM sees its initial state at every step. Only the authors' oldest weights need it.
      equal_loss_averages: whether all averages of the loss have a time constant of 10 steps. Only the authors' oldest
        weights need it.

    Returns:
      A `LearnedOptimizer`. Pass `num_steps`, and the loss as `value=` at every step. Without the loss, learned
      constants replace the nine loss features. Without `num_steps` they replace all 18 features of progress and loss,
      because the time scales of the loss features depend on it. State: four float32 copies of the parameters, three
      rows and three columns for each tensor (for a vector, three more copies and three numbers), 2 * lstm_size numbers
      for each tensor, 22 numbers and a step counter.

    Raises:
      ValueError: if hidden_sizes is empty or contains anything but positive whole numbers, or if lstm_size or
        num_networks is below 1.
      TypeError: if lstm_size or num_networks is not a whole number, or a flag is not a bool.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> optimizer = velo(lstm_size=8, num_networks=4)
      >>> tx = optimizer.transform(optimizer.init(jax.random.key(0)), num_steps=100)
      >>> params = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}
      >>> updates, state = jax.jit(tx.update)(params, tx.init(params), params, value=1.5)
      >>> params = optax.apply_updates(params, updates)

    References:
      Metz et al. 2022, https://arxiv.org/abs/2211.09760
    """
    hidden_sizes = checks.sizes(hidden_sizes)
    lstm_size = checks.whole_number("lstm_size", lstm_size, 1)
    num_networks = checks.whole_number("num_networks", num_networks, 1)
    step_multiplier = checks.real_number("step_multiplier", step_multiplier)
    magnitude_multiplier = checks.real_number("magnitude_multiplier", magnitude_multiplier)
    bank_multiplier = checks.real_number("bank_multiplier", bank_multiplier)
    fixed_state = checks.flag("fixed_state", fixed_state)
    equal_loss_averages = checks.flag("equal_loss_averages", equal_loss_averages)
    network = networks.per_parameter_mlp(hidden_sizes, num_outputs=2)
    lstm = networks.tensor_lstm(lstm_size, (num_networks, 1), mixing_layers=1)

    def init(key):
        bank_key, lstm_key = jax.random.split(key)
        first_state = tensor_features.init_lstm_state(lstm_size)
        inputs = jnp.zeros((1, NUM_TENSOR_FEATURES), jnp.float32)
        init_network = lambda network_key: factored_features.init_network(network, network_key, extended=True)
        return {
            "bank": jax.vmap(init_network)(jax.random.split(bank_key, num_networks)),
            "lstm": lstm.init(lstm_key, inputs, tensor_features.first_lstm_state(first_state, num_rows=1)),
            "first_state": first_state,
            "unknown": tensor_features.init_unknown(),
        }

    def rule(theta, horizon):
        def update_all(grads, params, slots, shared, step, loss):
            if not grads:
                return [], [], shared
            run, averages = tensor_features.schedule(
                step, horizon, loss, shared.loss, theta["unknown"], equal_averages=equal_loss_averages
            )
            inputs = _tensor_features(run, params, slots)
            (controls, multipliers), state = lstm.apply(theta["lstm"], inputs, shared.lstm)
            state = shared.lstm if fixed_state else state
            controls = (bank_multiplier / num_networks) * controls
            weights = jax.tree.map(lambda bank: jnp.tensordot(controls, bank, axes=1), theta["bank"])
            updates, new_slots = factored_step.relative_steps(
                network,
                [jax.tree.map(lambda leaf, i=i: leaf[i], weights) for i in range(len(grads))],
                grads,
                params,
                slots,
                multipliers=[step_multiplier * multipliers[i, 0] for i in range(len(grads))],
                magnitude_multiplier=magnitude_multiplier,
                widest=max(hidden_sizes),
                max_gradient=factored_step.MAX_GRADIENT + _zero_after(multipliers),
            )
            return updates, new_slots, tensor_features.RecurrentState(state, averages)

        def shared(params):
            return tensor_features.first_recurrent_state(theta["first_state"], len(params))

        return Rule(factored_moments.SLOTS, update_all, shared)

    spec = {
        "kind": "velo",
        "feature_version": FEATURE_VERSION,
        "hidden_sizes": list(hidden_sizes),
        "lstm_size": lstm_size,
        "num_networks": num_networks,
        "step_multiplier": step_multiplier,
        "magnitude_multiplier": magnitude_multiplier,
        "bank_multiplier": bank_multiplier,
        "fixed_state": fixed_state,
        "equal_loss_averages": equal_loss_averages,
    }
    return define(spec, init, rule)


def _tensor_features(run, params, slots):
    """The LSTM's inputs: float32[num_tensors, 30]. `run` are the features of progress and loss."""
    rows = [_statistics(*tensor) for tensor in zip(params, slots, strict=True)]
    found = jax.tree.map(lambda *column: jnp.stack(column), *rows)
    inverse_size = jax.lax.rsqrt(jnp.maximum(found.square, 1e-9))
    squares = [x * jnp.square(inverse_size) for x in (*found.momentum_variances, *found.moment_distances)]
    scaled = jnp.stack([found.moment_mean * inverse_size, *squares], axis=1)
    statistics = tensor_features.without_nan(0.5 * tensor_features.log_magnitude(10.0 * scaled))
    ranks = np.array([sum(size > 1 for size in p.shape) for p in params])
    one_hot = (ranks[:, None] == np.arange(MAX_RANK + 1)).astype(np.float32)
    run = jnp.broadcast_to(run, (len(params), *run.shape))
    return jnp.concatenate([run, statistics[:, :1], one_hot, statistics[:, 1:]], axis=1)


def _zero_after(x):
    """0 that depends on x. The new slots depend on it, so they can take the place of the old ones in memory.

    Otherwise the compiler may write a new slot before `_statistics` has read the old one, for which it makes a copy.
    """
    return jax.lax.stop_gradient(jnp.minimum(jnp.abs(tensor_features.without_nan(x[0, 0])), 0.0))


def _statistics(param, slots):
    """The `Statistics` of one tensor."""
    mean, variance = jnp.mean(slots.moment), jnp.var(slots.moment)
    return Statistics(
        square=features.mean_square(param),
        moment_mean=mean,
        momentum_variances=tuple(jnp.var(m) for m in slots.momenta),
        moment_distances=tuple(variance + jnp.square(mean - jnp.mean(m)) for m in slots.momenta),
    )
