"""COMLN: features, the first head and a time are learned; a linear head follows its gradient flow for that time.

Deleu et al. 2022, "Continuous-Time Meta-Learning with Forward Mode Differentiation", https://arxiv.org/abs/2203.01443
"""

import math

import jax
import jax.numpy as jnp
import optax

from meta_train import estimators
from meta_train import problems
from meta_train.few_shot import Episodes
from meta_train.few_shot import Network
from meta_train.problems.head_flow import HeadFlowTheta
from meta_train.problems.head_flow import adapted_outputs
from meta_train.problems.head_flow import head_flow
from meta_train.recipes.few_shot.base import Learner
from meta_train.recipes.few_shot.base import counts
from meta_train.unroll import truncation


def learner(
    episodes: Episodes,
    network: Network,
    *,
    key: jax.Array,
    num_steps: int | None = None,
    num_particles: int | None = None,
    outer_rate: float | None = None,
    first_time: float = 1.0,
) -> Learner:
    """Builds the learner; see `LearnerFn`.

    Args:
      episodes: with labels as targets.
      network: its last layer is adapted.
      key: random key of the initial meta-parameters.
      num_steps: not used: the flow goes on for the learned time, however many steps its solver takes. `adapt` ignores
        its number as well, but for 0, which does not adapt.
      num_particles: episodes in an outer step; None: 8.
      outer_rate: learning rate of Adam, which also moves the logarithm of the time; None: 1e-3.
      first_time: the time before training.

    Raises:
      ValueError: if the episodes have no labels, or an argument is out of range.
    """
    num_steps, num_particles = counts(episodes, num_steps, num_particles, steps=1)
    if not first_time > 0:
        raise ValueError(f"first_time must be positive, got {first_time}.")
    problem = head_flow(episodes, network)
    log_time = jnp.asarray(math.log(first_time), jnp.float32)

    def adapt(theta, key, support, query_inputs, num_steps):
        del key
        if num_steps == 0:
            return network.apply(theta.params, query_inputs)
        return adapted_outputs(network, theta, support, query_inputs)

    return Learner(
        name="comln",
        description="a linear head follows its gradient flow for a learned time, on learned features",
        theta=HeadFlowTheta(problems.initial_theta(episodes, network, key), log_time),
        estimator=estimators.full_backprop(problem, num_particles=num_particles, horizon=truncation.constant(1)),
        outer_optimizer=optax.adam(1e-3 if outer_rate is None else outer_rate),
        adapt=adapt,
        num_steps=num_steps,
        inner_steps_per_outer_step=num_particles,
    )
