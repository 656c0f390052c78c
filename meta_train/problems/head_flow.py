"""Few-shot classification by a linear head that follows its gradient flow, on features that are learned.

Deleu et al. 2022, "Continuous-Time Meta-Learning with Forward Mode Differentiation", https://arxiv.org/abs/2203.01443

Deviation: the head has a bias, which flows as the weight of a feature that is always 1.
"""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from meta_train.few_shot.base import Batch
from meta_train.few_shot.base import Episodes
from meta_train.few_shot.base import Network
from meta_train.few_shot.features import features
from meta_train.problems.softmax_flow import softmax_flow
from meta_train.unroll.problem import Problem


class HeadFlowTheta(NamedTuple):
    """Meta-parameters."""

    params: Any  # the network's; those of its head are where the flow begins
    log_time: jax.Array  # float[], logarithm of the time for which the head flows


def head_flow(episodes: Episodes, network: Network, *, step_share: float = 0.5, max_steps: int = 10_000) -> Problem:
    r"""Builds the problem of features, a first head and a time, so that the head does well after the flow (COMLN).

    .. math:: \dot W = -\nabla_W L_{\mathrm{support}}(W, X), \qquad
              \min_\theta L_{\mathrm{query}}(W(e^t)), \quad \theta = (X, W(0), t)

    Args:
      episodes: the learning problems, with labels as targets and the cross-entropy as loss.
      network: a haiku network whose last layer is linear. Its theta is a `HeadFlowTheta`.
      step_share: length of the solver's steps, see `softmax_flow`.
      max_steps: the most steps of the solver; an episode that needs more has the loss NaN.

    Returns:
      A `Problem` of a single step, an episode: `full_backprop(problem, horizon=truncation.constant(1), ...)` gives the
      gradient. Its memory does not grow with the time. Derivatives are in reverse mode only.

    Raises:
      ValueError: if the episodes have no labels.

    Example: episodes of 2 classes, told apart by the sign of the only input.
      >>> import haiku as hk
      >>> from meta_train.few_shot import Episode
      >>> def sample(key, data):
      ...     labels = jnp.arange(4, dtype=jnp.int32) % 2
      ...     inputs = labels[:, None] - 0.5 + 0.1 * jax.random.normal(key, (4, 1))
      ...     return Episode(Batch(inputs[:2], labels[:2]), Batch(inputs[2:], labels[2:]))
      >>> def loss(outputs, labels):
      ...     return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(outputs), labels[:, None], axis=1))
      >>> episodes = Episodes("signs", (), (), sample, loss, 2, (1,), classifies=True)
      >>> layers = hk.without_apply_rng(hk.transform(lambda x: hk.Linear(2, name="head")(hk.Linear(3)(x))))
      >>> network = Network(layers.init, layers.apply, head="head")
      >>> params = network.init(jax.random.key(0), jnp.ones((1, 1)))
      >>> problem = head_flow(episodes, network)
      >>> short, long = (HeadFlowTheta(params, jnp.log(time)) for time in (0.1, 10.0))
      >>> _, before = problem.step(jax.random.key(1), short, (), ())
      >>> _, after = problem.step(jax.random.key(1), long, (), ())
      >>> bool(after < before)
      True

    References:
      Deleu et al. 2022, https://arxiv.org/abs/2203.01443
    """
    if not episodes.classifies:
        raise ValueError(
            f"head_flow adapts a softmax layer, and the targets of {episodes.name!r} are not labels: choose episodes "
            "that classify, or problems.gradient_flow, which follows the flow of any loss."
        )

    def step(key, theta, state, data):
        support, query = episodes.sample(key, data)
        outputs = adapted_outputs(network, theta, support, query.inputs, step_share=step_share, max_steps=max_steps)
        return state, episodes.loss(outputs, query.targets)

    return Problem(lambda key, theta, num_steps: (), step, episodes.train, episodes.name)


def adapted_outputs(
    network: Network,
    theta: HeadFlowTheta,
    support: Batch,
    query_inputs: jax.Array,
    *,
    step_share: float = 0.5,
    max_steps: int = 10_000,
) -> jax.Array:
    """Lets the head flow on the support set and computes the network's outputs.

    Args:
      network: as in `head_flow`.
      theta: meta-parameters.
      support: examples with labels.
      query_inputs: float32[n, ...].
      step_share: length of the solver's steps, see `softmax_flow`.
      max_steps: the most steps of the solver.

    Returns:
      float32[n, classes], logits of the query examples.
    """
    head = theta.params[network.head]
    known = features(network, theta.params, support.inputs)
    s = softmax_flow(
        known @ head["w"] + head["b"],
        known @ known.T + 1,  # the bias is the weight of a feature that is 1
        support.targets,
        jnp.exp(theta.log_time),
        step_share=step_share,
        max_steps=max_steps,
    )
    weights, bias = head["w"] - known.T @ s, head["b"] - jnp.sum(s, axis=0)
    return features(network, theta.params, query_inputs) @ weights + bias
