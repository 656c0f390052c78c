"""Celo: a small network computes the step of each coordinate, and a recurrent network schedules the size of all steps.

Moudgil, Knyazev, Lajoie, Belilovsky 2025, "Celo: Training Versatile Learned Optimizers on a Compute Diet",
https://arxiv.org/abs/2501.12670

Features and epsilons are those of the authors' released code. Deviations:
- The released code runs the recurrent network once for each tensor, on inputs and states that are the same for all
  tensors. Here it runs once. The function computed is the same.
- The layer that mixes tensors consists of two ReLU layers. The released code never uses the result of the first.
- The loss features deviate as `learned_optim.tensor_features` says.
- The rule's network has two outputs; the released code has a third, which it never uses.
- For tensors with fewer than two dimensions, 1e-6 is added to v in the feature F(m). The released code adds nothing and
  divides by zero if all gradients were 0.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from learned_optim import checks
from learned_optim import factored_features
from learned_optim import factored_moments
from learned_optim import factored_step
from learned_optim import networks
from learned_optim import tensor_features
from learned_optim.base import LearnedOptimizer
from learned_optim.base import Rule
from learned_optim.base import define

FEATURE_VERSION = 1


def celo(
    hidden_sizes: Sequence[int] = (4, 4),
    lstm_size: int = 64,
    *,
    scheduler: bool = True,
    step_multiplier: float = 1e-3,
    magnitude_multiplier: float = 1e-3,
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
      step_multiplier: λ₁, the scale of the direction output.
      magnitude_multiplier: λ₂, the scale of the log step size output.

    Returns:
      A `LearnedOptimizer` with theta {"rule": …, "scheduler": …}. Pass `num_steps`, and the loss as `value=` at every
      step. Without the loss, learned constants replace the loss features. Without `num_steps` they replace all features
      of the scheduler, because the time scales of the loss features depend on it. State: four float32 copies of the
      parameters, three rows and three columns for each tensor (for a vector, three more copies and three numbers),
      2 * lstm_size + 22 numbers and a step counter.

    Raises:
      ValueError: if hidden_sizes is empty or contains anything but positive whole numbers, or if lstm_size is below 1.
      TypeError: if lstm_size is not a whole number, or scheduler is not a bool.

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
    step_multiplier = checks.real_number("step_multiplier", step_multiplier)
    magnitude_multiplier = checks.real_number("magnitude_multiplier", magnitude_multiplier)
    network = networks.per_parameter_mlp(hidden_sizes, num_outputs=2)
    lstm = networks.tensor_lstm(lstm_size, (1,), mixing=True)

    def init(key):
        rule_key, scheduler_key = jax.random.split(key)
        theta = {"rule": factored_features.init_network(network, rule_key, extended=True)}
        if scheduler:
            theta["scheduler"] = _init_scheduler(lstm, lstm_size, scheduler_key)
        return theta

    def rule(theta, horizon):
        def update_all(grads, params, slots, shared, step, loss):
            multiplier = step_multiplier
            if scheduler:
                log_multiplier, shared = _schedule(lstm, theta["scheduler"], shared, step, horizon, loss)
                multiplier = step_multiplier * 0.1 * jnp.exp(log_multiplier)
            updates, new_slots = factored_step.relative_steps(
                network,
                [theta["rule"]] * len(grads),
                grads,
                params,
                slots,
                multipliers=[multiplier] * len(grads),
                magnitude_multiplier=magnitude_multiplier,
                widest=max(hidden_sizes),
            )
            return updates, new_slots, shared

        def shared(params):
            del params
            if not scheduler:
                return ()
            return tensor_features.first_recurrent_state(theta["scheduler"]["first_state"], num_rows=1)

        return Rule(factored_moments.SLOTS, update_all, shared)

    spec = {
        "kind": "celo",
        "feature_version": FEATURE_VERSION,
        "hidden_sizes": list(hidden_sizes),
        "lstm_size": lstm_size,
        "scheduler": scheduler,
        "step_multiplier": step_multiplier,
        "magnitude_multiplier": magnitude_multiplier,
    }
    return define(spec, init, rule)


def _init_scheduler(lstm, lstm_size, key):
    first_state = tensor_features.init_lstm_state(lstm_size)
    inputs = jnp.zeros((1, tensor_features.NUM_SCHEDULE_FEATURES), jnp.float32)
    return {
        "lstm": lstm.init(key, inputs, tensor_features.first_lstm_state(first_state, num_rows=1)),
        "first_state": first_state,
        "unknown": tensor_features.init_unknown(),
    }


def _schedule(lstm, theta, shared, step, horizon, loss):
    """Returns the scheduler's output o and its new state."""
    inputs, averages = tensor_features.schedule(step, horizon, loss, shared.loss, theta["unknown"])
    (output,), state = lstm.apply(theta["lstm"], inputs[None], shared.lstm)
    return output[0, 0], tensor_features.RecurrentState(state, averages)
