"""MAML and its kin: a learner that backpropagates through the inner steps."""

from collections.abc import Sequence

import jax
import optax

from meta_train import estimators
from meta_train import problems
from meta_train.few_shot import Episodes
from meta_train.few_shot import Network
from meta_train.recipes.few_shot.base import Learner
from meta_train.recipes.few_shot.base import counts
from meta_train.unroll import truncation

_FEW_STEPS = 5  # up to here the steps are kept in memory for the way back, and beyond that made again


def maml_rate(episodes: Episodes) -> float:
    """The inner rate of MAML's paper: 0.4 to tell up to 10 classes apart, 0.1 for more, 0.01 for regression."""
    if not episodes.classifies:
        return 0.01
    return 0.4 if episodes.num_outputs <= 10 else 0.1


def backpropagating(
    name: str,
    description: str,
    episodes: Episodes,
    network: Network,
    *,
    key: jax.Array,
    num_steps: int | None,
    num_particles: int | None,
    outer_rate: float | None,
    inner_rate: float,
    second_derivatives: bool = True,
    learned_rates: bool = False,
    adapted_layers: Sequence[str] | None = None,
) -> Learner:
    """Builds a learner of initial parameters.

    Args:
      name: the method's.
      description: a sentence about it.
      episodes: what to learn from.
      network: what adapts.
      key: random key of the initial parameters.
      num_steps: inner steps; None: 1.
      num_particles: episodes in an outer step; None: 8 where episodes classify, else 24.
      outer_rate: learning rate of Adam; None: 1e-3.
      inner_rate: of gradient descent. Where rates are learned, each coordinate begins with it.
      second_derivatives: whether the inner gradients are differentiated.
      learned_rates: whether each coordinate's rate is learned.
      adapted_layers: names of the layers that adapt; None: all.

    Raises:
      ValueError: if an argument is out of range.
    """
    num_steps, num_particles = counts(episodes, num_steps, num_particles, steps=1)
    inner_optimizer = optax.sgd(1.0 if learned_rates else inner_rate)
    problem = problems.initial_parameters(
        episodes,
        network,
        inner_optimizer,
        num_steps,
        second_derivatives=second_derivatives,
        learned_rates=learned_rates,
        adapt=adapted_layers,
    )

    def adapt(theta, key, support, query_inputs, num_steps):
        run = problems.adaptation(
            episodes, network, inner_optimizer, num_steps, learned_rates=learned_rates, adapt=adapted_layers
        )
        return run(theta, key, support, query_inputs)

    return Learner(
        name=name,
        description=description,
        theta=problems.initial_theta(
            episodes, network, key, learned_rates=inner_rate if learned_rates else None, adapt=adapted_layers
        ),
        estimator=estimators.full_backprop(
            problem,
            num_particles=num_particles,
            horizon=truncation.constant(num_steps),
            rematerialize=num_steps > _FEW_STEPS,
        ),
        outer_optimizer=optax.adam(1e-3 if outer_rate is None else outer_rate),
        adapt=adapt,
        num_steps=num_steps,
        inner_steps_per_outer_step=num_steps * num_particles,
    )
