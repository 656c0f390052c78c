"""Two estimators, one after the other: a cheap biased one to begin with, an unbiased one to end with.

Truncated backpropagation brings a random recurrent optimizer to sensible steps in few windows, and is biased by their
shortness. Evolution strategies see whole episodes, and are slow to start from random weights.
"""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_optim import checks
from meta_train.estimators.base import Estimator

_NEVER = 2**31 - 1  # outer steps, more than int32 counts


class InTurnState(NamedTuple):
    """State of both estimators."""

    step: jax.Array  # int32[particles], outer steps made, the same for all particles
    first: Any  # the first estimator's state
    second: Any  # the second's; it begins at outer step 0, and stands still until its turn


def in_turn(first: Estimator, second: Estimator, *, num_steps: int) -> Estimator:
    """Builds the estimator that is `first` for `num_steps` outer steps, and `second` from then on.

    Each outer step runs one of the two.

    Args:
      first, second: estimators with the same number of particles.
      num_steps: outer steps of the first; 0 leaves all to the second.

    Returns:
      An `Estimator` with the name of the second. `info.step_losses` is ().

    Raises:
      ValueError: if the estimators have different numbers of particles, or num_steps is below 0.
      TypeError: if num_steps is not a whole number.

    Example: the gradient is 1, then 2.
      >>> from meta_train import Problem, estimators, truncation
      >>> linear = lambda slope: estimators.truncated_backprop(
      ...     Problem(lambda key, theta, num_steps: (), lambda key, theta, state, data: ((), slope * theta)),
      ...     num_particles=2, unroll_length=1, horizon=truncation.constant(1))
      >>> estimator = in_turn(linear(1.0), linear(2.0), num_steps=1)
      >>> state = estimator.init(jax.random.key(0), 0.0)
      >>> for step in range(3):
      ...     gradient, state, _ = estimator.estimate(jax.random.key(step), 0.0, state, estimator.data)
      ...     print(gradient)
      1.0
      2.0
      2.0
    """
    if first.num_particles != second.num_particles:
        raise ValueError(
            "in_turn needs estimators with the same number of particles, got "
            f"{first.num_particles} and {second.num_particles}."
        )
    num_steps = min(checks.whole_number("num_steps", num_steps, 0), _NEVER)

    def init(key, theta):
        first_key, second_key = jax.random.split(key)
        step = jnp.zeros((first.num_particles,), jnp.int32)
        return InTurnState(step, first.init(first_key, theta), second.init(second_key, theta))

    def estimate(key, theta, state, data, axis_name=None):
        def run_first():
            gradient, new, info = first.estimate(key, theta, state.first, data[0], axis_name=axis_name)
            return gradient, state._replace(first=new), info._replace(step_losses=())

        def run_second():
            gradient, new, info = second.estimate(key, theta, state.second, data[1], axis_name=axis_name)
            return gradient, state._replace(second=new), info._replace(step_losses=())

        gradient, new, info = jax.lax.cond(state.step[0] < num_steps, run_first, run_second)
        return gradient, new._replace(step=state.step + 1), info

    return Estimator(init, estimate, (first.data, second.data), first.num_particles, second.name)
