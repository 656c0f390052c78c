"""Celo: a small network computes the step of each coordinate, and a recurrent network schedules the size of all steps.

Moudgil, Knyazev, Lajoie, Belilovsky 2025, "Celo: Training Versatile Learned Optimizers on a Compute Diet",
https://arxiv.org/abs/2501.12670

Updates equal those of the authors' released code. The tests compare them with a float64 version of the equations that
reproduces the released code's updates, with the released weights and with random ones. Deviations, none of which
changes an update in ordinary use:
- The released code runs the recurrent network once for each tensor, on inputs and states that are the same for all
  tensors. Here it runs once.
- If the number of steps or the loss is not known, learned constants replace the features (`tensor_features.schedule`).
- The released code has one more mixing layer, whose result it never uses, and a third output of the rule's network,
  likewise. It has controls for several networks; there is one network, so they have no effect.
- Second moments, rows, columns and mean squares are bounded, so that they stay finite.

Feature version 1, of files saved by older versions of this library, differs from it: the mixing has two layers, 1e-6 is
added to v in the feature F(m) of tensors with fewer than two dimensions, and the bound on the loss is that of
`plain_bound` in `tensor_features.schedule`.
"""

from collections.abc import Sequence
import math

import jax
import jax.numpy as jnp

from learned_optim import checks
from learned_optim import factored_features
from learned_optim import factored_moments
from learned_optim import factored_step
from learned_optim import features
from learned_optim import hyperparameters
from learned_optim import networks
from learned_optim import tensor_features
from learned_optim.base import LearnedOptimizer
from learned_optim.base import Rule
from learned_optim.base import define

FEATURE_VERSION = 2
OLDEST_VERSION = 1
B1, B2 = 0.9, 0.999  # decays of Adam, with the option `adam`


def celo(
    hidden_sizes: Sequence[int] = (4, 4),
    lstm_size: int = 64,
    *,
    scheduler: bool = True,
    adam: bool = False,
    step_multiplier: float = 1e-3,
    magnitude_multiplier: float = 1e-3,
    feature_version: int = FEATURE_VERSION,
) -> LearnedOptimizer:
    r"""Builds the Celo optimizer, whose update rule and scheduler are meta-trained one after the other.

    .. math::
      \Delta p = -0.1 \, e^{o} \, \lambda_1 \, d \, e^{\lambda_2 a} \, r(p), \qquad
      (d, a) = \mathrm{MLP}(f), \qquad o = \mathrm{LSTM}(c)

    The inputs f of a coordinate are the 28 features of `factored_mlp` that do not depend on time, the gradient
    clipped to ±.1, and g/√v, each divided by its root mean square over the tensor; r(p) is the root mean square of
    the tensor. The inputs c of the scheduler are nine features of the progress through the run and nine of the loss
    (`learned_optim.tensor_features.schedule`). Gradients are clipped to ±1000.

    Stage 1 of meta-training trains the rule alone, with `scheduler=False`, which leaves out the factor 0.1 e^o. Stage 2
    freezes the rule and trains the scheduler. The example shows how to go from one stage to the other.

    Args:
      hidden_sizes: widths of the rule's hidden ReLU layers. The paper's network is (4, 4).
      lstm_size: units of the scheduler's LSTM.
      scheduler: whether there is a scheduler. False is the optimizer of stage 1; its theta has no "scheduler".
      adam: whether Adam's direction m̂ / (√(v̂ + 1e-10) + 1e-8), with decays .9 and .999, takes the place of the rule's
        d exp(λ₂ a) r(p), as in the authors' Celo-Adam. Theta then has no "rule", and gradients are not clipped.
      step_multiplier: λ₁, the scale of the direction output.
      magnitude_multiplier: λ₂, the scale of the log step size output.
      feature_version: 2 equals the authors' released code. 1 is that of older versions of this library.

    Returns:
      A `LearnedOptimizer` with theta {"rule": …, "scheduler": …}. Pass `num_steps`, and the loss as `value=` at every
      step. Without the loss, learned constants replace the loss features. Without `num_steps` they replace all features
      of the scheduler, because the time scales of the loss features depend on it. State: four float32 copies of the
      parameters, three rows and three columns for each tensor (for a vector, three more copies and three numbers),
      2 * lstm_size + 22 numbers and a step counter.

    Raises:
      ValueError: if hidden_sizes is empty or contains anything but positive whole numbers, if lstm_size is below 1,
        if feature_version is neither 1 nor 2, or if adam is True without a scheduler or with feature version 1.
      TypeError: if lstm_size is not a whole number, or a flag is not a bool.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> first = celo(scheduler=False)
      >>> stage1_theta = first.init(jax.random.key(0))  # then meta-train it
      >>> optimizer = celo()
      >>> theta = {**optimizer.init(jax.random.key(1)), "rule": stage1_theta["rule"]}
      >>> outer_optimizer = optax.multi_transform(  # meta-train theta with this one in stage 2
      ...     {"train": optax.adam(3e-4), "freeze": optax.set_to_zero()}, {"rule": "freeze", "scheduler": "train"})
      >>> tx = optimizer.transform(theta, num_steps=100)
      >>> params = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}
      >>> updates, state = jax.jit(tx.update)(params, tx.init(params), params, value=1.5)
      >>> params = optax.apply_updates(params, updates)

    References:
      Moudgil et al. 2025, https://arxiv.org/abs/2501.12670
      Metz et al. 2022 (VeLO), https://arxiv.org/abs/2211.09760
    """
    hidden_sizes = checks.sizes(hidden_sizes)
    lstm_size = checks.whole_number("lstm_size", lstm_size, 1, "To leave the LSTM out, pass scheduler=False.")
    scheduler = checks.flag("scheduler", scheduler)
    adam = checks.flag("adam", adam)
    step_multiplier = checks.real_number("step_multiplier", step_multiplier)
    magnitude_multiplier = checks.real_number("magnitude_multiplier", magnitude_multiplier)
    feature_version = checks.feature_version(feature_version, OLDEST_VERSION, FEATURE_VERSION)
    old = feature_version == 1
    if adam and (old or not scheduler):
        raise ValueError("adam=True needs scheduler=True and feature_version=2: Adam's direction has nothing to learn.")
    network = networks.per_parameter_mlp(hidden_sizes, num_outputs=2)
    lstm = networks.tensor_lstm(lstm_size, (1,), mixing_layers=2 if old else 1)

    def init(key):
        rule_key, scheduler_key = jax.random.split(key)
        theta = {} if adam else {"rule": factored_features.init_network(network, rule_key, extended=True)}
        if scheduler:
            theta["scheduler"] = _init_scheduler(lstm, lstm_size, scheduler_key)
        return theta

    def rule(theta, horizon):
        def update_all(grads, params, slots, shared, step, loss):
            multiplier = step_multiplier
            if scheduler:
                log_multiplier, shared = _schedule(lstm, theta["scheduler"], shared, step, horizon, loss, old)
                multiplier = step_multiplier * 0.1 * jnp.exp(log_multiplier)
            if adam:
                made = [_adam_step(grad, slot, step, multiplier) for grad, slot in zip(grads, slots, strict=True)]
                return [update for update, _ in made], [new_slot for _, new_slot in made], shared
            updates, new_slots = factored_step.relative_steps(
                network,
                [theta["rule"]] * len(grads),
                grads,
                params,
                slots,
                multipliers=[multiplier] * len(grads),
                magnitude_multiplier=magnitude_multiplier,
                widest=max(hidden_sizes),
                vector_epsilon=1e-6 if old else 0.0,
            )
            return updates, new_slots, shared

        def shared(params):
            del params
            if not scheduler:
                return ()
            first_state = theta["scheduler"]["first_state"]
            return tensor_features.first_recurrent_state(first_state, num_rows=1, plain_bound=old)

        return Rule(hyperparameters.ADAM_SLOTS if adam else factored_moments.SLOTS, update_all, shared)

    spec = {
        "kind": "celo",
        "feature_version": feature_version,
        "hidden_sizes": list(hidden_sizes),
        "lstm_size": lstm_size,
        "scheduler": scheduler,
        "step_multiplier": step_multiplier,
        "magnitude_multiplier": magnitude_multiplier,
    }
    if adam:
        spec["adam"] = True
    return define(spec, init, rule)


def _init_scheduler(lstm, lstm_size, key):
    first_state = tensor_features.init_lstm_state(lstm_size)
    inputs = jnp.zeros((1, tensor_features.NUM_SCHEDULE_FEATURES), jnp.float32)
    return {
        "lstm": lstm.init(key, inputs, tensor_features.first_lstm_state(first_state, num_rows=1)),
        "first_state": first_state,
        "unknown": tensor_features.init_unknown(),
    }


def _schedule(lstm, theta, shared, step, horizon, loss, plain_bound):
    """Returns the scheduler's output o and its new state."""
    inputs, averages = tensor_features.schedule(
        step, horizon, loss, shared.loss, theta["unknown"], plain_bound=plain_bound
    )
    (output,), state = lstm.apply(theta["lstm"], inputs[None], shared.lstm)
    return output[0, 0], tensor_features.RecurrentState(state, averages)


def _adam_step(grad, slots, step, multiplier):
    """Returns the update of Adam's direction, and the new slots."""
    (first,) = features.momenta(grad, (slots.first,), (B1,))
    second = features.second_moment(grad, slots.second, B2)
    weight = lambda decay: -jnp.expm1((step + 1.0) * math.log(decay))
    root = jnp.sqrt(second / weight(B2) + 1e-10)
    return -multiplier * (first / weight(B1)) / (root + 1e-8), hyperparameters.AdamSlots(first, second)
