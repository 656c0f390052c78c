"""Meta-SGD: initial parameters and a learning rate for each coordinate.

Li, Zhou, Chen, Li 2017, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", https://arxiv.org/abs/1707.09835
"""

import jax

from meta_train.few_shot import Episodes
from meta_train.few_shot import Network
from meta_train.recipes.few_shot.backpropagating import backpropagating
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
      inner_rate: with which all rates begin; None: 0.1 where episodes classify, else 0.01.

    Raises:
      ValueError: if an argument is out of range.
    """
    return backpropagating(
        "meta-sgd",
        "initial parameters and a rate for each coordinate, by backpropagation through the inner steps",
        episodes,
        network,
        key=key,
        num_steps=num_steps,
        num_particles=num_particles,
        outer_rate=outer_rate,
        inner_rate=(0.1 if episodes.classifies else 0.01) if inner_rate is None else inner_rate,
        learned_rates=True,
    )
