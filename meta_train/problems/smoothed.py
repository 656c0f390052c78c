"""A problem under perturbations of theta: its mean loss is the smoothed one that evolution strategies descend.

Metz et al. 2019, "Understanding and correcting pathologies in the training of learned optimizers",
https://arxiv.org/abs/1810.10180: backpropagation through it is the reparametrization gradient of the smoothed loss.

Deviation: an episode keeps its perturbation, where the paper draws one for each window.
"""

from typing import Any
from typing import NamedTuple

import jax
import optax

from meta_train.unroll.perturbations import perturbation
from meta_train.unroll.problem import Problem


class SmoothedState(NamedTuple):
    """State of an episode."""

    inner: Any  # the first problem's state
    noise: Any  # like theta, the episode's perturbation


def smoothed(problem: Problem, std: float = 0.01) -> Problem:
    r"""Perturbs theta in each episode, so that the objective is the mean loss smoothed over perturbations.

    .. math:: L'(\theta) = E_{\epsilon \sim \mathcal N(0, I)} \, L(\theta + \sigma \epsilon)

    Estimators that differentiate then estimate what `nres` and `full_es` do at the same std, and their particles
    differ even where the problem itself draws nothing. `estimators.inverse_variance` wants both.

    Args:
      problem: any problem. Optional structure of it, such as an inverse step, does not carry over.
      std: standard deviation σ of the perturbations, in units of theta.

    Returns:
      A `Problem` whose state holds a copy of theta more.

    Raises:
      ValueError: if std is not positive.

    Example: the curvature of theta² adds σ² to the mean loss.
      >>> import jax.numpy as jnp
      >>> square = Problem(lambda key, theta, num_steps: (), lambda key, theta, state, data: (state, theta**2))
      >>> problem = smoothed(square, std=0.5)
      >>> theta = jnp.ones(1000)
      >>> state = problem.init(jax.random.key(0), theta, jnp.asarray(1))
      >>> _, losses = problem.step(jax.random.key(1), theta, state, ())
      >>> bool(abs(losses.mean() - 1.25) < 0.1)
      True

    References:
      Metz et al. 2019, https://arxiv.org/abs/1810.10180
    """
    if not std > 0:
        raise ValueError(f"std must be positive, got {std}.")

    def init(key, theta, num_steps):
        init_key, noise_key = jax.random.split(key)
        noise = perturbation(noise_key, theta, std)
        return SmoothedState(problem.init(init_key, optax.tree.add(theta, noise), num_steps), noise)

    def step(key, theta, state, data):
        inner, loss = problem.step(key, optax.tree.add(theta, state.noise), state.inner, data)
        return state._replace(inner=inner), loss

    return Problem(init, step, problem.data, problem.name)
