r"""A learning rate for each coordinate, from how far tasks moved it and how steep they found it (ARUBA).

Khodak, Balcan, Talwalkar 2019, "Adaptive Gradient-Based Meta-Learning Methods", https://arxiv.org/abs/1906.02717

After the task number t, which went from φ to θ̂ along the gradients ∇,

.. math:: b \leftarrow b + \tfrac12 (\hat\theta - \varphi)^2 + \frac{\varepsilon^2}{(t+1)^p}, \qquad
          g \leftarrow g + \sum \nabla^2 + \frac{\zeta^2}{(t+1)^p}, \qquad \eta = \sqrt{b / g}

These rates minimize the bound of the regret of gradient descent from φ.
"""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax


class ArubaTheta(NamedTuple):
    """Where adaptation begins, and the two sums that give its rates."""

    initial: Any  # φ, the first inner parameters
    distances: Any  # b, with the structure of initial
    slopes: Any  # g, with the structure of initial
    tasks: jax.Array  # float[], t of the next task; 1 at first


class DescentState(NamedTuple):
    """State of `descent`."""

    squares: Any  # sum of the squared gradients of this task


def begin(initial: Any, *, distance: float, slope: float) -> ArubaTheta:
    """Makes the meta-parameters before the first task.

    Args:
      initial: the first inner parameters, a pytree of floating-point arrays.
      distance: ε, a typical distance that a coordinate moves within a task. The first rates are distance / slope.
      slope: ζ, a typical gradient of a coordinate.

    Returns:
      An `ArubaTheta`.

    Raises:
      ValueError: if distance or slope is not positive.

    Example:
      >>> float(rates(begin(jnp.zeros(()), distance=0.5, slope=2.0)))
      0.25
    """
    if not (distance > 0 and slope > 0):
        raise ValueError(f"distance and slope must be positive, got {distance} and {slope}.")
    full = lambda value: jax.tree.map(lambda x: jnp.full_like(x, value**2), initial)
    return ArubaTheta(initial, full(distance), full(slope), jnp.ones((), jnp.float32))


def rates(theta: ArubaTheta) -> Any:
    """Learning rates: a pytree with the structure of the inner parameters."""
    return jax.tree.map(lambda b, g: jnp.sqrt(b / g), theta.distances, theta.slopes)


def increment(theta: ArubaTheta, adapted: Any, squares: Any, *, distance: float, slope: float, power: float):
    """What a task adds to the sums.

    Args:
      theta: meta-parameters, with which the task was learned.
      adapted: θ̂, the inner parameters at its end.
      squares: sum of the squares of its gradients.
      distance: ε.
      slope: ζ.
      power: p.

    Returns:
      `(distances, slopes)`, each with the structure of adapted.

    Example: a coordinate went from 0 to 2, along gradients whose squares add up to 3.
      >>> theta = begin(jnp.zeros(()), distance=2.0, slope=2.0)
      >>> b, g = increment(theta, jnp.asarray(2.0), jnp.asarray(3.0), distance=2.0, slope=2.0, power=1.0)
      >>> float(b), float(g)  # 2² / 2 + 2² / 2 and 3 + 2² / 2
      (4.0, 5.0)
    """
    share = lambda x: (1 / (theta.tasks + 1) ** power).astype(x.dtype)
    moved = lambda new, old: 0.5 * jnp.square(new - old) + distance**2 * share(new)
    distances = jax.tree.map(moved, adapted, theta.initial)
    slopes = jax.tree.map(lambda x: x + slope**2 * share(x), squares)
    return distances, slopes


def descent(theta: ArubaTheta, *, online: bool = False) -> optax.GradientTransformation:
    """Gradient descent with the learned rates, as an optax transformation with final updates.

    Args:
      theta: meta-parameters.
      online: whether the squares of a task's own gradients count at once, so that its rates fall ("ARUBA++").

    Returns:
      An `optax.GradientTransformation`, whose state sums the squares of the gradients.

    Example:
      >>> tx = descent(begin(jnp.zeros(()), distance=0.5, slope=2.0))
      >>> update, state = tx.update(jnp.asarray(4.0), tx.init(jnp.zeros(())))
      >>> float(update), float(state.squares)
      (-1.0, 16.0)
    """

    def init(params):
        return DescentState(optax.tree.zeros_like(params))

    def update(updates, state, params=None):
        del params
        squares = jax.tree.map(lambda s, x: s + jnp.square(x), state.squares, updates)
        slopes = optax.tree.add(theta.slopes, squares) if online else theta.slopes
        rate = rates(theta._replace(slopes=slopes))
        return jax.tree.map(lambda r, x: -r * x, rate, updates), DescentState(squares)

    return optax.GradientTransformation(init, update)


def outer(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The outer optimizer: `optimizer` moves the initial parameters, and the sums grow by what the estimate says.

    `fit` must not clip then (`clip_norm=None`), which would clip the sums as well.

    Example:
      >>> tx = outer(optax.sgd(0.5))
      >>> theta = begin(jnp.zeros(()), distance=1.0, slope=1.0)
      >>> gradient = ArubaTheta(jnp.asarray(1.0), jnp.asarray(-2.0), jnp.asarray(-3.0), jnp.asarray(-1.0))
      >>> update, _ = tx.update(gradient, tx.init(theta), theta)
      >>> [float(x) for x in update]
      [-0.5, 2.0, 3.0, 1.0]
    """
    tx = optax.with_extra_args_support(optimizer)

    def init(params):
        return tx.init(params.initial)

    def update(updates, state, params=None, **extra_args):
        initial = None if params is None else params.initial
        moves, state = tx.update(updates.initial, state, initial, **extra_args)
        return ArubaTheta(moves, *(optax.tree.scale(-1, sums) for sums in updates[1:])), state

    return optax.GradientTransformationExtraArgs(init, update)
