"""Learn from the support set, be judged on the query set: the two losses, and adaptation by steps on the first."""

from typing import Any

import jax
import optax

from meta_train.few_shot import Batch
from meta_train.few_shot import Episode
from meta_train.few_shot import Episodes
from meta_train.few_shot import Network
from meta_train.problems.unrolled import UnrolledState
from meta_train.problems.unrolled import inner_update
from meta_train.unroll.problem import Bilevel


def support_and_query(episodes: Episodes, network: Network) -> Bilevel:
    """Builds the losses of a network whose initial parameters are theta, on an episode's two sets."""

    def loss(params, batch):
        return episodes.loss(network.apply(params, batch.inputs), batch.targets)

    return Bilevel(
        inner_loss=lambda params, theta, key, episode: loss(params, episode.support),
        outer_loss=lambda params, theta, key, episode: loss(params, episode.query),
        init=lambda key, theta: theta,
        data=episodes.train,
        name=episodes.name,
        sample=episodes.sample,
    )


def adapted_params(
    bilevel: Bilevel,
    inner_optimizer: optax.GradientTransformation,
    theta: Any,
    key: jax.Array,
    support: Batch,
    num_steps: int,
) -> Any:
    """Makes inner steps on the support set.

    Args:
      bilevel: its inner loss looks at the support set of an `Episode`.
      inner_optimizer: an optax transformation with final updates.
      theta: meta-parameters.
      key: random key.
      support: what to learn from.
      num_steps: inner steps; 0 returns the first parameters.
    """
    init_key, step_key = jax.random.split(key)
    params = bilevel.init(init_key, theta)
    episode = Episode(support, support)  # the inner loss does not look at the query set
    step = lambda state, key: (inner_update(bilevel, inner_optimizer, key, theta, state, episode), None)
    state = UnrolledState(params, inner_optimizer.init(params))
    state, _ = jax.lax.scan(step, state, jax.random.split(step_key, num_steps))
    return state.params
