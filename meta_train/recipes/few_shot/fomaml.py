"""First-order MAML: as MAML, with the inner gradients as constants.

Finn, Abbeel, Levine 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks",
https://arxiv.org/abs/1703.03400
"""

import jax

from meta_train.few_shot import Episodes
from meta_train.few_shot import Network
from meta_train.recipes.few_shot.backpropagating import backpropagating
from meta_train.recipes.few_shot.backpropagating import maml_rate
from meta_train.recipes.few_shot.base import Learner


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
      num_steps: inner steps; None: 1.
      num_particles: episodes in an outer step; None: 8 where episodes classify, else 24.
      outer_rate: learning rate of Adam; None: 1e-3.
      inner_rate: of gradient descent; None: 0.4 to tell up to 10 classes apart, 0.1 for more, 0.01 for regression.

    Raises:
      ValueError: if an argument is out of range.
    """
    return backpropagating(
        "fomaml",
        "initial parameters, by MAML without second derivatives",
        episodes,
        network,
        key=key,
        num_steps=num_steps,
        num_particles=num_particles,
        outer_rate=outer_rate,
        inner_rate=maml_rate(episodes) if inner_rate is None else inner_rate,
        second_derivatives=False,
    )
