"""`Learner`: all that is needed to meta-train a few-shot method, and to use what it learned."""

from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import optax

from meta_train.estimators.base import Estimator
from meta_train.few_shot import Batch
from meta_train.few_shot import Episodes
from meta_train.few_shot import Network


class AdaptFn(Protocol):
    """Learns from a support set, and answers for the query set."""

    def __call__(
        self, theta: Any, key: jax.Array, support: Batch, query_inputs: jax.Array, num_steps: int, /
    ) -> jax.Array:
        """Adapts.

        Args:
          theta: meta-parameters.
          key: random key.
          support: the examples to learn from.
          query_inputs: float32[n, ...].
          num_steps: inner steps, a Python int; 0 does not adapt. "comln", which follows its flow for the learned time
            with as many steps as a solver takes, looks only whether it is 0.

        Returns:
          float32[n, outputs] on the query set: logits, or predictions.
        """
        ...


class Learner(NamedTuple):
    """All that `fit` needs to meta-train a few-shot method, and what it learned to do.

    Fields:
      name: the method's, such as "maml".
      description: a sentence about it.
      theta: initial meta-parameters.
      estimator: of the meta-gradient.
      outer_optimizer: updates theta.
      adapt: `(theta, key, support, query_inputs, num_steps) -> outputs` on query_inputs. Pure; num_steps is static.
      num_steps: inner steps of an episode in training.
      inner_steps_per_outer_step: inner steps of all episodes of an outer step, to tell its speed.
      clip_norm: for `fit`. None where the meta-gradient is to be taken as it is.
    """

    name: str
    description: str
    theta: Any
    estimator: Estimator
    outer_optimizer: optax.GradientTransformation
    adapt: AdaptFn
    num_steps: int
    inner_steps_per_outer_step: int
    clip_norm: float | None = None


class LearnerFn(Protocol):
    """Builds a method's learner; `METHODS` has one for each."""

    def __call__(
        self,
        episodes: Episodes,
        network: Network,
        *,
        key: jax.Array,
        num_steps: int | None = None,
        num_particles: int | None = None,
        outer_rate: float | None = None,
    ) -> Learner:
        """Builds it.

        Args:
          episodes: what to learn from.
          network: what learns.
          key: random key of the initial meta-parameters.
          num_steps: inner steps of an episode in training. None takes the method's number for such episodes.
          num_particles: episodes in an outer step. None takes the method's number for such episodes.
          outer_rate: learning rate of the outer optimizer. None takes the method's.
        """
        ...


def counts(episodes: Episodes, num_steps: int | None, num_particles: int | None, *, steps: int) -> tuple[int, int]:
    """Fills in what was left out: inner steps, and episodes in an outer step.

    Args:
      episodes: what to learn from: 8 of them in an outer step where they classify, else 24.
      num_steps: as given.
      num_particles: as given.
      steps: the method's inner steps.

    Raises:
      ValueError: if a number is below 1.
    """
    num_steps = steps if num_steps is None else num_steps
    num_particles = (8 if episodes.classifies else 24) if num_particles is None else num_particles
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1 inner step, got {num_steps}.")
    if num_particles < 1:
        raise ValueError(f"num_particles must be at least 1 episode, got {num_particles}.")
    return num_steps, num_particles
