"""The updates that VeLO and Celo have in common: a network on the 30 factored features computes them."""

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp

from learned_optim import factored_features
from learned_optim import networks
from learned_optim.factored_moments import Slots
from learned_optim.rule import Theta

MAX_GRADIENT = 1000.0


def relative_steps(
    network: networks.Network,
    thetas: Sequence[Theta],
    grads: Sequence[jax.Array],
    params: Sequence[jax.Array],
    slots: Sequence[Slots],
    *,
    multipliers: Sequence[float | jax.Array],
    magnitude_multiplier: float,
    widest: int,
    vector_epsilon: float = 0.0,
    max_gradient: float | jax.Array = MAX_GRADIENT,
) -> tuple[list[jax.Array], list[Slots]]:
    """Computes the updates of all tensors and their new slots by `relative_step`.

    Weights, gradient, parameter, slots and multiplier are sequences with an entry for each tensor.
    """
    step = functools.partial(
        relative_step,
        network,
        magnitude_multiplier=magnitude_multiplier,
        widest=widest,
        vector_epsilon=vector_epsilon,
        max_gradient=max_gradient,
    )
    made = [
        step(theta, grad, param, slot, multiplier=multiplier)
        for theta, grad, param, slot, multiplier in zip(thetas, grads, params, slots, multipliers, strict=True)
    ]
    return [update for update, _ in made], [new_slots for _, new_slots in made]


def relative_step(
    network: networks.Network,
    theta: Theta,
    grad: jax.Array,
    param: jax.Array,
    slots: Slots,
    *,
    multiplier: float | jax.Array,
    magnitude_multiplier: float,
    widest: int,
    vector_epsilon: float = 0.0,
    max_gradient: float | jax.Array = MAX_GRADIENT,
) -> tuple[jax.Array, Slots]:
    """Computes the update of a tensor, in units of its root mean square.

    The update is `-multiplier * r(p) * d * exp(magnitude_multiplier * a)`. d and a are the network's outputs, and r(p)
    is the root mean square of the parameter (1e-9 is added to its square).

    Args:
      network: a network with two outputs, made by `networks.per_parameter_mlp`.
      theta: its weights.
      grad: the gradient.
      param: the parameter.
      slots: arrays as `factored_moments.SLOTS` makes them.
      multiplier: factor on the update.
      magnitude_multiplier: scale of the log step size output.
      widest: width of the network's widest layer.
      vector_epsilon: as in `factored_moments.factor`.
      max_gradient: gradients are clipped to ± this.

    Returns:
      The update and the new slots.
    """
    grad = jnp.clip(grad, -max_gradient, max_gradient)
    observed, mean_squares, slots = factored_features.observe(
        grad, param, slots, extended=True, vector_epsilon=vector_epsilon
    )
    scales = factored_features.normalizers(mean_squares)
    scale = -multiplier * jnp.sqrt(mean_squares.param + 1e-9)

    def step_of(observed):
        inputs = factored_features.inputs(observed, extended=True)
        direction, magnitude = factored_features.apply_network(network, theta, inputs, scales)
        return scale * direction * jnp.exp(magnitude_multiplier * magnitude)

    return networks.in_blocks(step_of, observed, widest), slots
