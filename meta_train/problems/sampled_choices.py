"""A controller's choices and what they cost: for REINFORCE, and for evolution strategies on the same problem.

Williams 1992, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning",
https://doi.org/10.1007/BF00992696; with a moving average as the baseline in Zoph and Le 2017, "Neural Architecture
Search with Reinforcement Learning", https://arxiv.org/abs/1611.01578
"""

from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import jax.numpy as jnp

from meta_train.problems.controller import Controller
from meta_train.unroll.problem import Problem


class ChoiceLossFn(Protocol):
    """What a sequence of choices costs."""

    def __call__(self, choices: jax.Array, key: jax.Array, data: Any, /) -> jax.Array:
        """Computes it.

        Args:
          choices: int32[places].
          key: random key, such as that of a network's training.
          data: `Problem.data`.

        Returns:
          float[], the loss: minus the reward.
        """
        ...


class BaselineState(NamedTuple):
    """The moving average of losses."""

    total: jax.Array  # float[], weighted sum of the earlier steps' mean losses
    weight: jax.Array  # float[], sum of the weights


def sampled_choices(
    controller: Controller, loss: ChoiceLossFn, data: Any = (), *, num_samples: int = 1, baseline_decay: float = 0.9
) -> Problem:
    r"""Builds the problem of a controller that makes choices of low loss. Theta is the controller's.

    .. math:: \nabla_\theta E[L] = E\big[(L - b) \, \nabla_\theta \log p_\theta(\mathrm{choices})\big]

    is REINFORCE's gradient, which holds for every baseline b that the choices do not influence. It is what an estimator
    that differentiates finds here, while the losses are not differentiated at all. Evolution strategies and searches
    take the same problem, and see the losses alone.

    Args:
      controller: what chooses.
      loss: `(choices, key, data) -> float[]`; a table, or a network's training.
      data: pytree of arrays that loss reads.
      num_samples: sequences in a step, whose losses are averaged.
      baseline_decay: b is the average of the earlier steps' mean losses in an episode, with weights that fall by this
        factor from step to step; 0 at the first step.

    Returns:
      A `Problem`. A step draws sequences; what one step hands to the next is the baseline alone. So for REINFORCE take
      `truncated_backprop(problem, unroll_length=1, horizon=truncation.constant(outer steps), …)`, for evolution
      strategies episodes of one step.

    Raises:
      ValueError: if num_samples is below 1, or baseline_decay does not lie between 0 and 1.

    Example: the second option costs less, so descent raises its logit.
      >>> from meta_train import estimators, problems, truncation
      >>> controller = problems.independent_controller([2])
      >>> problem = sampled_choices(
      ...     controller, lambda choices, key, table: table[choices[0]], jnp.array([1.0, 0.0]), num_samples=100)
      >>> reinforce = estimators.truncated_backprop(
      ...     problem, num_particles=1, unroll_length=1, horizon=truncation.constant(10))
      >>> theta = controller.init(jax.random.key(0))
      >>> state = reinforce.init(jax.random.key(1), theta)
      >>> gradient, state, info = jax.jit(reinforce.estimate)(jax.random.key(2), theta, state, reinforce.data)
      >>> bool(gradient[0, 0] > 0 > gradient[0, 1])
      True

    References:
      Williams 1992, https://doi.org/10.1007/BF00992696; Zoph and Le 2017, https://arxiv.org/abs/1611.01578
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}.")
    if not 0 <= baseline_decay < 1:
        raise ValueError(f"baseline_decay must lie between 0 and 1, 1 excluded, got {baseline_decay}.")

    def init(key, theta, num_steps):
        del key, num_steps
        zero = jnp.zeros((), jax.tree.leaves(theta)[0].dtype)
        return BaselineState(zero, zero)

    def step(key, theta, state, data):
        sample_key, loss_key = jax.random.split(key)
        draw = lambda key: controller.sample(key, jax.lax.stop_gradient(theta))
        choices = jax.vmap(draw)(jax.random.split(sample_key, num_samples))
        losses = jax.vmap(lambda choices, key: loss(choices, key, data))(
            choices, jax.random.split(loss_key, num_samples)
        )
        losses = jax.lax.stop_gradient(losses.astype(state.total.dtype))
        baseline = state.total / jnp.maximum(state.weight, jnp.finfo(state.weight.dtype).tiny)
        scores = jax.vmap(lambda choices: controller.log_probability(theta, choices))(choices)
        # The value is the mean loss; the derivative is that of the scores, times losses above the baseline.
        value = jnp.mean(losses + (losses - baseline) * (scores - jax.lax.stop_gradient(scores)))
        total = baseline_decay * state.total + jnp.mean(losses)
        return BaselineState(total, baseline_decay * state.weight + 1), value

    return Problem(init, step, data, "sampled-choices")
