"""ARUBA: initial parameters move to where tasks end, and each coordinate gets a learning rate of its own.

Khodak, Balcan, Talwalkar 2019, "Adaptive Gradient-Based Meta-Learning Methods", https://arxiv.org/abs/1906.02717
"""

import jax
import optax

from meta_train import estimators
from meta_train.estimators import aruba_rates
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
    slope: float = 0.1,
) -> Learner:
    """Builds the learner; see `LearnerFn`.

    Args:
      episodes: what to learn from.
      network: all of it is adapted.
      key: random key of the initial parameters.
      num_steps: inner steps; None: 10.
      num_particles: episodes in an outer step; None: 8 where episodes classify, else 24.
      outer_rate: share of the way to where tasks end that an outer step goes; None: 0.5.
      inner_rate: the rates before the first task; None: 0.1 where episodes classify, else 0.01.
      slope: ζ, a typical gradient of a coordinate. ε is slope times inner_rate.

    Raises:
      ValueError: if an argument is out of range.
    """
    num_steps = 10 if num_steps is None else num_steps
    num_particles = (8 if episodes.classifies else 24) if num_particles is None else num_particles
    check_counts(num_steps, num_particles)
    inner_rate = (0.1 if episodes.classifies else 0.01) if inner_rate is None else inner_rate
    sizes = {"distance": slope * inner_rate, "slope": slope}
    bilevel = support_and_query(episodes, network)

    def adapt(theta, key, support, query_inputs, num_steps):
        tx = aruba_rates.descent(theta)
        params = adapted_params(bilevel, tx, theta.initial, key, support, num_steps)
        return network.apply(params, query_inputs)

    return Learner(
        name="aruba",
        description="initial parameters where tasks end, with a learning rate for each coordinate",
        theta=aruba_rates.begin(initial_params(network, episodes, key), **sizes),
        estimator=estimators.aruba(bilevel, num_steps=num_steps, num_particles=num_particles, **sizes),
        outer_optimizer=aruba_rates.outer(optax.sgd(0.5 if outer_rate is None else outer_rate)),
        adapt=adapt,
        num_steps=num_steps,
        inner_steps_per_outer_step=num_steps * num_particles,
    )
