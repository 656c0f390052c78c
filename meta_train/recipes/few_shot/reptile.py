"""Reptile: initial parameters move towards where adaptation ends.

Nichol, Achiam, Schulman 2018, "On First-Order Meta-Learning Algorithms", https://arxiv.org/abs/1803.02999

Deviation: inner steps are plain gradient descent on the whole support set, where the paper takes Adam on parts of it.
"""

import jax
import optax

from meta_train import estimators
from meta_train import problems
from meta_train.few_shot import Episodes
from meta_train.few_shot import Network
from meta_train.recipes.few_shot.base import Learner
from meta_train.recipes.few_shot.base import counts


def learner(
    episodes: Episodes,
    network: Network,
    *,
    key: jax.Array,
    num_steps: int | None = None,
    num_particles: int | None = None,
    outer_rate: float | None = None,
    inner_rate: float | None = None,
) -> Learner:
    """Builds the learner; see `LearnerFn`.

    Args:
      episodes: what to learn from.
      network: all of it is adapted.
      key: random key of the initial parameters.
      num_steps: inner steps; None: 10 where episodes classify, else 32.
      num_particles: episodes in an outer step; None: 8 where episodes classify, else 24.
      outer_rate: share of the way to where adaptation ends that an outer step goes; None: 0.5.
      inner_rate: of gradient descent; None: 0.1 where episodes classify, else 0.02.

    Raises:
      ValueError: if an argument is out of range.
    """
    num_steps, num_particles = counts(episodes, num_steps, num_particles, steps=10 if episodes.classifies else 32)
    inner_optimizer = optax.sgd((0.1 if episodes.classifies else 0.02) if inner_rate is None else inner_rate)
    problem = problems.initial_parameters(episodes, network, inner_optimizer, num_steps)

    def adapt(theta, key, support, query_inputs, num_steps):
        return problems.adaptation(episodes, network, inner_optimizer, num_steps)(theta, key, support, query_inputs)

    return Learner(
        name="reptile",
        description="initial parameters that move towards where adaptation ends",
        theta=problems.initial_theta(episodes, network, key),
        estimator=estimators.reptile(
            problem, inner_optimizer=inner_optimizer, inner_steps=num_steps, num_particles=num_particles
        ),
        outer_optimizer=optax.sgd(0.5 if outer_rate is None else outer_rate),
        adapt=adapt,
        num_steps=num_steps,
        inner_steps_per_outer_step=num_steps * num_particles,
    )
