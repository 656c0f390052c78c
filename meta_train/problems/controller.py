"""Controllers: distributions over sequences of choices, with theta as their parameters."""

from collections.abc import Sequence
import itertools
from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np


class ControllerInitFn(Protocol):
    """Draws a controller's theta."""

    def __call__(self, key: jax.Array, /) -> Any:
        """Draws it.

        Args:
          key: random key.

        Returns:
          Theta, a pytree of floating-point arrays.
        """
        ...


class ControllerSampleFn(Protocol):
    """Draws a sequence of choices."""

    def __call__(self, key: jax.Array, theta: Any, /) -> jax.Array:
        """Draws it.

        Args:
          key: random key.
          theta: the controller's parameters.

        Returns:
          int32[places], the choice at each place, 0 … options - 1.
        """
        ...


class LogProbabilityFn(Protocol):
    """How likely a sequence of choices is."""

    def __call__(self, theta: Any, choices: jax.Array, /) -> jax.Array:
        """Computes it.

        Args:
          theta: the controller's parameters.
          choices: int32[places].

        Returns:
          float[], the logarithm of the probability.
        """
        ...


class Controller(NamedTuple):
    """A distribution over sequences of choices.

    Fields:
      init: `(key) -> theta`.
      sample: `(key, theta) -> choices`.
      log_probability: `(theta, choices) -> float[]`, differentiable in theta.
      num_options: options of each place.
    """

    init: ControllerInitFn
    sample: ControllerSampleFn
    log_probability: LogProbabilityFn
    num_options: tuple[int, ...]


def independent_controller(num_options: Sequence[int]) -> Controller:
    """Builds the controller that chooses at each place by a softmax of its own.

    Args:
      num_options: options of each place. Theta is float32[places, largest of them], logits, zero at first; those
        beyond a place's options have no effect.

    Raises:
      ValueError: if there is no place, or a place without an option.

    Example:
      >>> controller = independent_controller([2, 3])
      >>> theta = controller.init(jax.random.key(0))
      >>> round(float(jnp.exp(controller.log_probability(theta, jnp.array([1, 2])))), 4)  # 1 / 6
      0.1667
    """
    allowed = allowed_options(num_options)

    def sample(key, theta):
        return jax.random.categorical(key, jnp.where(allowed, theta, -jnp.inf)).astype(jnp.int32)

    def log_probability(theta, choices):
        return jnp.sum(log_probabilities(theta, allowed)[jnp.arange(len(allowed)), choices])

    return Controller(lambda key: jnp.zeros(allowed.shape), sample, log_probability, tuple(num_options))


def every_choice(controller: Controller) -> np.ndarray:
    """All sequences of choices, int32[sequences, places], for spaces that are small enough to enumerate.

    Example:
      >>> every_choice(independent_controller([2, 1])).tolist()
      [[0, 0], [1, 0]]
    """
    return np.array(list(itertools.product(*map(range, controller.num_options))), np.int32)


def expected_loss(controller: Controller, theta: Any, losses: jax.Array) -> jax.Array:
    """The exact mean of tabulated losses over a controller's choices: what sampling estimates.

    Args:
      controller: what chooses.
      theta: its parameters.
      losses: of every sequence, an axis for each place.

    Returns:
      float[], differentiable in theta.

    Raises:
      ValueError: if the table has not as many entries along each axis as the place has options.

    Example:
      >>> controller = independent_controller([2])
      >>> float(expected_loss(controller, controller.init(jax.random.key(0)), jnp.array([1.0, 3.0])))
      2.0
    """
    if losses.shape != controller.num_options:
        raise ValueError(f"losses need the shape {controller.num_options}, the options by place, got {losses.shape}.")
    found = jax.vmap(lambda choices: controller.log_probability(theta, choices))(jnp.asarray(every_choice(controller)))
    return jnp.exp(found) @ losses.reshape(-1)


def log_probabilities(logits: jax.Array, allowed: np.ndarray | jax.Array) -> jax.Array:
    """The log-softmax of logits over what is allowed; elsewhere a number without effect, so no derivative is NaN."""
    masked = jnp.where(allowed, logits, jnp.finfo(logits.dtype).min)
    return jax.nn.log_softmax(masked, axis=-1)


def allowed_options(num_options: Sequence[int]) -> np.ndarray:
    """bool[places, most options], true for the options that a place has.

    Raises:
      ValueError: if there is no place, or a place without an option.
    """
    if not num_options or min(num_options) < 1:
        raise ValueError(f"a controller needs places with at least one option each, got {list(num_options)}.")
    return np.arange(max(num_options))[None, :] < np.asarray(num_options)[:, None]
