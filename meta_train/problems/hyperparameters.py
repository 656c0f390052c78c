"""Schedules of learning rate, momentum and weight decay as theta, over whole trainings.

Micaelli, Storkey 2020, "Gradient-based Hyperparameter Optimization Over Long Horizons",
https://arxiv.org/abs/2007.07869

Deviations: theta is logarithms and log-odds, so that no value leaves its range; the outer optimizer is the caller's.
"""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.problems.momentum_descent import momentum_descent
from meta_train.unroll.problem import Bilevel
from meta_train.unroll.problem import Problem

_LEAST_DECAY = 1e-6  # smaller weight decays begin here: zero has no logarithm, and from far below none is learned
_LEAST_MOMENTUM, _MOST_MOMENTUM = 0.01, 0.999  # likewise
_MOMENTA = (1e-3, 1 - 2.0**-12)  # whatever theta is
_GRAIN = 2.0**16  # momenta are multiples of its inverse, so that `estimators.reversible` sees the same ones


class HyperTheta(NamedTuple):
    """Schedules as meta-parameters: a number for each block of steps."""

    learning_rate: Any  # float[blocks], natural logarithms
    momentum: Any  # float[blocks], log-odds
    weight_decay: Any  # float[blocks], natural logarithms


class Schedules(NamedTuple):
    """Schedules as values, or those of one step."""

    learning_rate: Any  # float[blocks]
    momentum: Any  # float[blocks], of 0 … 1
    weight_decay: Any  # float[blocks], times the parameters is added to the gradient


def hyper_theta(
    *, learning_rate: float, momentum: float = 0.9, weight_decay: float = 0.0, num_blocks: int = 10
) -> HyperTheta:
    """The theta of constants, to begin with.

    Args:
      learning_rate: above 0.
      momentum: from 0 to 1; it is kept between 0.01 and 0.999.
      weight_decay: at least 0; it is kept above 1e-6.
      num_blocks: how many values each schedule has.

    Raises:
      ValueError: if an argument is out of range.

    Example:
      >>> theta = hyper_theta(learning_rate=0.1, num_blocks=3)
      >>> np.asarray(schedules(theta).momentum).round(3)
      array([0.9, 0.9, 0.9], dtype=float32)
    """
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be positive, got {learning_rate}.")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be at least 0 and below 1, got {momentum}.")
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay must not be negative, got {weight_decay}.")
    if num_blocks < 1:
        raise ValueError(f"num_blocks must be at least 1, got {num_blocks}.")
    momentum = float(np.clip(momentum, _LEAST_MOMENTUM, _MOST_MOMENTUM))
    values = np.log(learning_rate), np.log(momentum / (1 - momentum)), np.log(max(weight_decay, _LEAST_DECAY))
    return HyperTheta(*(np.full(num_blocks, value, np.float32) for value in values))


def schedules(theta: HyperTheta) -> Schedules:
    """The values that theta stands for. Momenta are rounded to multiples of 1/65536; derivatives go through.

    Args:
      theta: of `hyper_theta`, or a part of one.
    """
    momentum = jnp.clip(jax.nn.sigmoid(jnp.asarray(theta.momentum)), *_MOMENTA)
    rounded = jnp.round(momentum * _GRAIN) / _GRAIN
    return Schedules(
        jnp.exp(jnp.asarray(theta.learning_rate)),
        momentum + jax.lax.stop_gradient(rounded - momentum),
        jnp.exp(jnp.asarray(theta.weight_decay)),
    )


def block_of(step: Any, num_steps: Any, num_blocks: int) -> Any:
    """The block that a step is in: blocks are contiguous, and as equal as can be.

    Args:
      step: int32[], 0, 1, ….
      num_steps: of the training; later steps are in the last block.
      num_blocks: how many there are.

    Example:
      >>> [int(block_of(step, 5, 2)) for step in range(6)]
      [0, 0, 0, 1, 1, 1]
    """
    return jnp.minimum(step * num_blocks // num_steps, num_blocks - 1)


def hyperparameters(bilevel: Bilevel, *, num_steps: int, num_counted: int = 1) -> Problem:
    r"""Builds the problem of the schedules with which a training by SGD ends at the lowest outer loss.

    .. math:: v \leftarrow \mu_b v + \nabla L(w) + \omega_b w, \qquad w \leftarrow w - \alpha_b v

    Theta is a `HyperTheta`. A block b of steps shares its three numbers: with σ² the variance of the gradient by
    a step's own number, that of a block of W steps has σ² / W.

    The same gradient is to be had in three ways: `estimators.forward_mode` takes a run with a tangent for each number
    of theta, in memory that does not grow with num_steps; `estimators.full_backprop` one run and a half more, in
    memory that grows with its root; `estimators.reversible` runs backwards, in 64 bits, and keeps a few bits a step.

    Args:
      bilevel: its inner loss is that of a training step, its outer loss that which schedules are judged by, say the
        validation loss. Neither need depend on theta.
      num_steps: of a training.
      num_counted: how many of the last outer losses count. The mean loss of an episode is the mean of these.

    Returns:
      A `Problem`, for estimators of whole episodes with the horizon `truncation.constant(num_steps)`.

    Raises:
      ValueError: if num_steps is below 1 or below num_counted.

    Example: with two steps in one block, w = (1 - rate)² if there is no momentum and no decay to speak of.
      >>> from meta_train import estimators, truncation
      >>> bilevel = Bilevel(
      ...     inner_loss=lambda w, theta, key, data: 0.5 * w**2,
      ...     outer_loss=lambda w, theta, key, data: w,
      ...     init=lambda key, theta: jnp.ones(()),
      ... )
      >>> problem = hyperparameters(bilevel, num_steps=2)
      >>> estimator = estimators.forward_mode(problem, num_particles=1, horizon=truncation.constant(2))
      >>> theta = hyper_theta(learning_rate=0.5, momentum=0.0, num_blocks=1)
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> gradient, state, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
      >>> round(float(info.loss), 2), round(float(gradient.learning_rate[0]), 2)  # rate · -2 (1 - rate)
      (0.25, -0.5)

    References:
      Micaelli, Storkey 2020, https://arxiv.org/abs/2007.07869
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}.")

    def rates(theta, step):
        found = at_step(theta, step, num_steps)
        return found.learning_rate, found.momentum, found.weight_decay

    return momentum_descent(bilevel, rates, dampened=False, num_steps=num_steps, num_counted=num_counted)


def at_step(theta: HyperTheta, step: Any, num_steps: Any) -> Schedules:
    """The three values at a step.

    Args:
      theta: the schedules.
      step: int32[], steps made so far.
      num_steps: of the training.
    """
    place = block_of(step, num_steps, len(theta.learning_rate))
    return schedules(HyperTheta(*(jnp.asarray(leaf)[place] for leaf in theta)))
