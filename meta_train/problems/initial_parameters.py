"""Initial parameters as meta-parameters: MAML, and its relatives that differentiate through adaptation.

Finn, Abbeel, Levine 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks",
https://arxiv.org/abs/1703.03400; Li et al. 2017, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning",
https://arxiv.org/abs/1707.09835; Raghu et al. 2019, "Rapid Learning or Feature Reuse? Towards Understanding the
Effectiveness of MAML" (ANIL), https://arxiv.org/abs/1909.09157
"""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from meta_train.few_shot import Batch
from meta_train.few_shot import Episode
from meta_train.few_shot import Episodes
from meta_train.few_shot import EvaluatedFn
from meta_train.few_shot import Network
from meta_train.problems.unrolled import UnrolledState
from meta_train.problems.unrolled import inner_update
from meta_train.unroll.episode_data import keep_episode
from meta_train.unroll.problem import Bilevel
from meta_train.unroll.problem import Problem


class LearnedRates(NamedTuple):
    """Meta-parameters of Meta-SGD."""

    params: Any  # the initial parameters
    rates: Any  # a factor for each coordinate's update, like the parameters that adapt


class AdaptationState(NamedTuple):
    """State of an adaptation."""

    inner: UnrolledState  # the parameters that adapt, and the inner optimizer's state
    remaining: jax.Array  # int32[], steps until it ends
    num_steps: jax.Array  # int32[], steps in all


def initial_parameters(
    episodes: Episodes,
    network: Network,
    inner_optimizer: optax.GradientTransformation,
    num_steps: int,
    *,
    second_derivatives: bool = True,
    learned_rates: bool = False,
    adapt: Sequence[str] | None = None,
) -> Problem:
    """Builds the problem of a network's initial parameters: adapt to a support set, and be judged on the query set.

    Each episode is drawn from `episodes.train`. The objective is the query set's loss after the last step, and is
    computed in that step only. With `full_backprop` and `horizon=truncation.constant(num_steps)` this is MAML; for few
    steps give it `rematerialize=False`, which is faster. `initial_theta` draws a theta, `adaptation` makes use of one.

    Args:
      episodes: what to adapt to.
      network: what adapts.
      inner_optimizer: an optax transformation with final updates, such as `optax.sgd(0.4)` or a learned optimizer.
      num_steps: steps of adaptation: the horizon to give to the estimator. Beyond 1, the query set's loss is computed
        twice in reverse mode, so that its memory does not grow with the number.
      second_derivatives: False is first-order MAML: the inner gradients count as constants.
      learned_rates: whether theta is a `LearnedRates`, whose rates multiply the inner optimizer's updates. With
        `optax.sgd(1.0)` this is Meta-SGD.
      adapt: names of the top-level entries of the network's parameters that adapt, such as `(network.head,)`, which is
        ANIL; the others are learned by the outer optimizer alone. None: all.

    Returns:
      A `Problem` for all estimators that unroll. Unless rates are learned it declares `bilevel`, so that `reptile`
      works on it, and `implicit` on `problems.proximal(problem.bilevel, strength=...)`.

    Raises:
      ValueError: if num_steps is below 1; when an episode begins, if the parameters have no entry that `adapt` names.

    Example: MAML on sinusoids.
      >>> from meta_train import estimators, few_shot, truncation
      >>> sinusoids, network = few_shot.sinusoids(), few_shot.perceptron(1)
      >>> problem = initial_parameters(sinusoids, network, optax.sgd(0.01), num_steps=1)
      >>> estimator = estimators.full_backprop(
      ...     problem, num_particles=4, horizon=truncation.constant(1), rematerialize=False)
      >>> theta = initial_theta(sinusoids, network, jax.random.key(0))
      >>> state = estimator.init(jax.random.key(1), theta)
      >>> gradient, state, info = jax.jit(estimator.estimate)(jax.random.key(2), theta, state, estimator.data)
      >>> gradient["head"]["w"].shape, bool(info.loss > 0)
      ((40, 1), True)

    References:
      Finn et al. 2017, https://arxiv.org/abs/1703.03400
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}.")
    bilevel, transform = _losses(episodes, network, adapt, learned_rates), _transform(inner_optimizer, learned_rates)

    def init(key, theta, num_steps):
        params, num_steps = bilevel.init(key, theta), jnp.asarray(num_steps, jnp.int32)
        return AdaptationState(UnrolledState(params, transform(theta).init(params)), num_steps, num_steps)

    def step(key, theta, state, episode):
        inner_key, outer_key = jax.random.split(key)
        inner = inner_update(
            bilevel, transform(theta), inner_key, theta, state.inner, episode, second_derivatives=second_derivatives
        )
        judge = lambda params, theta: bilevel.outer_loss(params, theta, outer_key, episode)
        dtype = jax.eval_shape(judge, inner.params, theta).dtype
        judge = judge if num_steps == 1 else jax.checkpoint(judge, prevent_cse=False)  # a loop keeps both runs apart
        # Where the lengths of episodes differ, vmap computes the loss at every step and takes the last.
        loss = jax.lax.cond(state.remaining == 1, judge, lambda *_: jnp.zeros((), dtype), inner.params, theta)
        return AdaptationState(inner, state.remaining - 1, state.num_steps), state.num_steps.astype(dtype) * loss

    problem = Problem(init, step, bilevel.data, bilevel.name, bilevel=None if learned_rates else bilevel)
    return keep_episode(problem, bilevel.sample)


def initial_theta(
    episodes: Episodes,
    network: Network,
    key: jax.Array,
    *,
    learned_rates: float | None = None,
    adapt: Sequence[str] | None = None,
) -> Any:
    """Draws meta-parameters for `initial_parameters`.

    Args:
      episodes: whose inputs tell the parameters' shapes.
      network: whose parameters are drawn.
      key: random key.
      learned_rates: with what rates `LearnedRates` begin; None if none are learned.
      adapt: as for `initial_parameters`; the others have no rate.

    Returns:
      The parameters, or a `LearnedRates`.
    """
    params = jax.jit(network.init)(key, jnp.zeros((1, *episodes.input_shape), jnp.float32))
    if learned_rates is None:
        return params
    return LearnedRates(params, jax.tree.map(lambda x: jnp.full_like(x, learned_rates), _part(params, adapt)))


def adaptation(
    episodes: Episodes,
    network: Network,
    inner_optimizer: optax.GradientTransformation,
    num_steps: int,
    *,
    learned_rates: bool = False,
    adapt: Sequence[str] | None = None,
) -> EvaluatedFn:
    """Builds the function that adapts as `initial_parameters` does in training, for `few_shot.evaluate`.

    Args:
      episodes: whose loss is that of the support set.
      network: what adapts.
      inner_optimizer: as in training.
      num_steps: at least 0; it may differ from that in training.
      learned_rates: as in training.
      adapt: as in training.

    Raises:
      ValueError: if num_steps is negative.

    Example: without a step, the answers are those of the initial parameters.
      >>> from meta_train import few_shot
      >>> sinusoids, network = few_shot.sinusoids(), few_shot.perceptron(1)
      >>> theta = initial_theta(sinusoids, network, jax.random.key(0))
      >>> support, query = sinusoids.sample(jax.random.key(1), ())
      >>> run = adaptation(sinusoids, network, optax.sgd(0.01), num_steps=0)
      >>> outputs = run(theta, jax.random.key(2), support, query.inputs)
      >>> bool(jnp.all(outputs == network.apply(theta, query.inputs)))
      True
    """
    if num_steps < 0:
        raise ValueError(f"num_steps must not be negative, got {num_steps}.")
    bilevel, transform = _losses(episodes, network, adapt, learned_rates), _transform(inner_optimizer, learned_rates)

    def run(theta: Any, key: jax.Array, support: Batch, query_inputs: jax.Array, /) -> jax.Array:
        params, tx = bilevel.init(key, theta), transform(theta)
        episode = Episode(support, support)  # the inner loss looks at the support set alone
        update = lambda state, key: (inner_update(bilevel, tx, key, theta, state, episode), None)
        keys = jax.random.split(key, num_steps)
        state, _ = jax.lax.scan(update, UnrolledState(params, tx.init(params)), keys)
        return network.apply(_whole(state.params, theta, adapt, learned_rates), query_inputs)

    return run


def _losses(episodes, network, adapt, learned_rates):
    """The losses of the support and of the query set."""

    def loss(params, theta, batch):
        outputs = network.apply(_whole(params, theta, adapt, learned_rates), batch.inputs)
        return episodes.loss(outputs, batch.targets)

    return Bilevel(
        inner_loss=lambda params, theta, key, episode: loss(params, theta, episode.support),
        outer_loss=lambda params, theta, key, episode: loss(params, theta, episode.query),
        init=lambda key, theta: _part(theta.params if learned_rates else theta, adapt),
        data=episodes.train,
        name=episodes.name,
        sample=episodes.sample,
    )


def _transform(inner_optimizer, learned_rates):
    """`(theta) -> inner optimizer`."""

    def transform(theta):
        if not learned_rates:
            return inner_optimizer
        multiply = lambda updates, _: jax.tree.map(jnp.multiply, updates, theta.rates)
        return optax.chain(inner_optimizer, optax.stateless(multiply))

    return transform


def _part(params, adapt):
    """The parameters that adapt."""
    if adapt is None:
        return params
    missing = [name for name in adapt if name not in params]
    if missing or not adapt:
        raise ValueError(
            f"adapt names top-level entries of the network's parameters, at least one of {sorted(params)}, got "
            f"{list(adapt)}."
        )
    return {name: params[name] for name in adapt}


def _whole(params, theta, adapt, learned_rates):
    """All parameters: those that adapt, and the others as theta has them."""
    return params if adapt is None else {**(theta.params if learned_rates else theta), **params}
