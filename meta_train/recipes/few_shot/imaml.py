"""Implicit MAML: adaptation is pulled towards where it begins, and its minimum differentiated, not its steps.

Rajeswaran et al. 2019, "Meta-Learning with Implicit Gradients", https://arxiv.org/abs/1909.04630
"""

import jax
import optax

from meta_train import estimators
from meta_train import problems
from meta_train.few_shot import Episodes
from meta_train.few_shot import Network
from meta_train.recipes.few_shot.base import Learner
from meta_train.recipes.few_shot.base import check_counts
from meta_train.recipes.few_shot.base import initial_params
from meta_train.recipes.few_shot.support_and_query import adapted_params
from meta_train.recipes.few_shot.support_and_query import support_and_query


def learner(
    episodes: Episodes,
    network: Network,
    *,
    key: jax.Array,
    num_steps: int | None = None,
    num_particles: int | None = None,
    outer_rate: float | None = None,
    inner_rate: float | None = None,
    strength: float | None = None,
) -> Learner:
    """Builds the learner; see `LearnerFn`.

    Args:
      episodes: what to learn from.
      network: all of it is adapted.
      key: random key of the initial parameters.
      num_steps: inner steps, which are to come near the minimum; None: 16.
      num_particles: episodes in an outer step; None: 8 where episodes classify, else 24.
      outer_rate: learning rate of Adam; None: 1e-3.
      inner_rate: of gradient descent; None: 0.1 where episodes classify, else 0.01.
      strength: λ of the pull; None: 2 where episodes classify, else 10.

    Raises:
      ValueError: if an argument is out of range.
    """
    num_steps = 16 if num_steps is None else num_steps
    num_particles = (8 if episodes.classifies else 24) if num_particles is None else num_particles
    check_counts(num_steps, num_particles)
    inner_rate = (0.1 if episodes.classifies else 0.01) if inner_rate is None else inner_rate
    strength = (2.0 if episodes.classifies else 10.0) if strength is None else strength
    bilevel = problems.proximal(support_and_query(episodes, network), strength=strength)
    inner_optimizer = optax.sgd(inner_rate)

    def adapt(theta, key, support, query_inputs, num_steps):
        params = adapted_params(bilevel, inner_optimizer, theta, key, support, num_steps)
        return network.apply(params, query_inputs)

    return Learner(
        name="imaml",
        description="initial parameters, differentiated at the minimum that they pull adaptation towards",
        theta=initial_params(network, episodes, key),
        estimator=estimators.implicit(
            bilevel,
            inner_optimizer=inner_optimizer,
            inner_steps=num_steps,
            num_particles=num_particles,
            solver=estimators.linear_solvers.conjugate_gradient(max_steps=5, tolerance=1e-3),
            fresh_start=True,
        ),
        outer_optimizer=optax.adam(1e-3 if outer_rate is None else outer_rate),
        adapt=adapt,
        num_steps=num_steps,
        inner_steps_per_outer_step=num_steps * num_particles,
    )
