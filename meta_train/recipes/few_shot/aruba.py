"""ARUBA: initial parameters move to where tasks end, and each coordinate gets a learning rate of its own.

Khodak, Balcan, Talwalkar 2019, "Adaptive Gradient-Based Meta-Learning Methods", https://arxiv.org/abs/1906.02717
"""

import jax
import optax

from meta_train import estimators
from meta_train import problems
from meta_train.estimators import aruba_rates
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
    num_steps, num_particles = counts(episodes, num_steps, num_particles, steps=10)
    inner_rate = (0.1 if episodes.classifies else 0.01) if inner_rate is None else inner_rate
    sizes = {"distance": slope * inner_rate, "slope": slope}
    problem = problems.initial_parameters(episodes, network, optax.sgd(inner_rate), num_steps)

    def adapt(theta, key, support, query_inputs, num_steps):
        run = problems.adaptation(episodes, network, aruba_rates.descent(theta), num_steps)
        return run(theta.initial, key, support, query_inputs)

    return Learner(
        name="aruba",
        description="initial parameters where tasks end, with a learning rate for each coordinate",
        theta=aruba_rates.begin(problems.initial_theta(episodes, network, key), **sizes),
        estimator=estimators.aruba(problem, num_steps=num_steps, num_particles=num_particles, **sizes),
        outer_optimizer=aruba_rates.outer(optax.sgd(0.5 if outer_rate is None else outer_rate)),
        adapt=adapt,
        num_steps=num_steps,
        inner_steps_per_outer_step=num_steps * num_particles,
    )
