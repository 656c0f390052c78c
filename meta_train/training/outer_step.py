"""One outer step: an `OuterRule` says how theta moves, by an outer optimizer or by a search.

The step has three parts: what to evaluate, one estimate for each task, and what follows from all of them. So it can be
one program, or a program for each task.
"""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import jax.numpy as jnp
import optax

from meta_train.estimators.base import Estimator
from meta_train.estimators.base import Info
from meta_train.outer.search.base import SearchStrategy


class Carried(NamedTuple):
    """What an outer step hands to the next one."""

    theta: Any  # the meta-parameters; of a search, its answer so far
    outer_state: Any  # the outer optimizer's state, or the search's
    estimator_states: tuple[Any, ...]  # one per estimator: [particles, …], in a search [particles, candidates, …]


class BeginFn(Protocol):
    """Makes what the first outer step gets."""

    def __call__(self, key: jax.Array, theta: Any, /) -> Carried:
        """Begins.

        Args:
          key: random key.
          theta: initial meta-parameters.
        """
        ...


class AskFn(Protocol):
    """Says where the estimators are to be evaluated."""

    def __call__(self, key: jax.Array, carried: Carried, /) -> Any:
        """Asks.

        Args:
          key: random key of the outer step.
          carried: what the last outer step handed on.

        Returns:
          theta, or the candidates of a search, whose leaves have a leading axis.
        """
        ...


class EstimateFn(Protocol):
    """Makes the estimate for one task."""

    def __call__(self, key: jax.Array, asked: Any, state: Any, data: Any, /) -> tuple[Any, Any, Info]:
        """Estimates.

        Args:
          key: random key of the outer step.
          asked: what `ask` gave.
          state: the estimator's state, of the particles on this device.
          data: the estimator's data.

        Returns:
          `(gradient, state, info)`, as an estimator gives them; in a search with an axis of candidates.
        """
        ...


class TellFn(Protocol):
    """Makes of all estimates what the outer step hands on."""

    def __call__(
        self, key: jax.Array, carried: Carried, asked: Any, results: Sequence[tuple[Any, Any, Info]], /
    ) -> tuple[Carried, Any, list[Info]]:
        """Finishes the step.

        Args:
          key: random key of the outer step.
          carried: what the last outer step handed on.
          asked: what `ask` gave.
          results: what the estimators gave for it.

        Returns:
          `(carried, gradient, infos)`: the gradient averaged over the estimators, and an `Info` of each of them.
        """
        ...


class AfterHostFn(Protocol):
    """The part of an outer step that runs on the host."""

    def __call__(self, outer_state: Any, /) -> tuple[Any, Any]:
        """Finishes the step.

        Args:
          outer_state: the state after `begin` or `update`, as NumPy arrays.

        Returns:
          `(theta, outer_state)`.
        """
        ...


class OuterRule(NamedTuple):
    """How theta moves in an outer step; built by `outer_rule`.

    Fields:
      begin: `(key, theta) -> carried`.
      ask: `(key, carried) -> asked`, theta or candidates.
      estimates: `(key, asked, state, data) -> (gradient, state, info)` for each estimator, with the particles on a
        mapped axis.
      tell: `(key, carried, asked, results) -> (carried, gradient, infos)`.
      after_host: `(outer_state) -> (theta, outer_state)`, called on the host after `begin` and after each step; None if
        the whole step is compiled.
    """

    begin: BeginFn
    ask: AskFn
    estimates: tuple[EstimateFn, ...]
    tell: TellFn
    after_host: AfterHostFn | None = None


def update(rule: OuterRule, key: jax.Array, carried: Carried, data: Any) -> tuple[Carried, Any, list[Info]]:
    """Makes an outer step: `ask`, the estimates, `tell`.

    Args:
      rule: how.
      key: random key of the outer step.
      carried: what the last outer step handed on; of the estimators' states, the shard of this device.
      data: the `data` of each estimator.

    Returns:
      What `tell` gives.
    """
    asked = rule.ask(key, carried)
    each = zip(rule.estimates, carried.estimator_states, data, strict=True)
    results = [estimate(key, asked, state, its_data) for estimate, state, its_data in each]
    return rule.tell(key, carried, asked, results)


def outer_rule(
    estimators: Sequence[Estimator], outer_optimizer: optax.GradientTransformation | SearchStrategy, axis: str
) -> OuterRule:
    """Builds the rule for what `fit` takes as its outer optimizer. The particles lie on the mapped `axis`."""
    if isinstance(outer_optimizer, SearchStrategy):
        return searching(estimators, outer_optimizer, axis)
    return descending(estimators, outer_optimizer, axis)


def descending(estimators: Sequence[Estimator], outer_optimizer: optax.GradientTransformation, axis: str) -> OuterRule:
    """Steps by an outer optimizer. The particles lie on the mapped `axis`.

    The outer optimizer gets the mean loss as `value=` and the losses of all estimators, float[tasks], as
    `task_losses=`.
    """
    tx = optax.with_extra_args_support(outer_optimizer)

    def begin(key, theta):
        states = tuple(e.init(jax.random.fold_in(key, i), theta) for i, e in enumerate(estimators))
        return Carried(theta, tx.init(theta), states)

    def tell(key, carried, theta, results):
        del key
        gradients = [gradient for gradient, _, _ in results]
        infos = [info for _, _, info in results]
        if any(gradient is None for gradient in gradients):
            raise ValueError(
                "an outer optimizer needs estimators of the gradient, got one that gives losses only, such as "
                "search.episodes: choose another, or give a search in place of the outer optimizer."
            )
        gradient, losses = _mean(gradients), jnp.stack([info.loss for info in infos])
        extra = {"value": jnp.mean(losses), "task_losses": losses}
        updates, outer_state = tx.update(gradient, carried.outer_state, theta, **extra)
        states = tuple(state for _, state, _ in results)
        return Carried(optax.apply_updates(theta, updates), outer_state, states), gradient, infos

    return OuterRule(begin, lambda key, carried: carried.theta, _estimates(estimators, axis), tell)


def searching(estimators: Sequence[Estimator], strategy: SearchStrategy, axis: str) -> OuterRule:
    """Steps by a search: it asks, every estimator runs on all candidates with the same random numbers, it is told.

    An estimator has a state for each candidate: leaves [particles, candidates, …]. Its `Info` covers all candidates:
    counts are sums, everything else is the mean over the candidates that have a number there.
    """
    count = len(estimators)

    def begin(key, theta):
        repeated = lambda x: jnp.repeat(x[:, None], strategy.num_candidates, axis=1)
        states = [e.init(jax.random.fold_in(key, i), theta) for i, e in enumerate(estimators)]
        search_state = strategy.init(jax.random.fold_in(key, count), theta)
        return Carried(theta, search_state, tuple(jax.tree.map(repeated, states)))

    def ask(key, carried):
        return strategy.ask(jax.random.fold_in(key, count), carried.outer_state)

    def for_all(estimate):
        def over_candidates(key, candidates, state, data):
            one = lambda theta, state: estimate(key, theta, state, data)
            return jax.vmap(one, in_axes=(0, 1), out_axes=(0, 1, 0))(candidates, state)

        return over_candidates

    def tell(key, carried, candidates, results):
        zeros = optax.tree.zeros_like(candidates)
        gradients = _mean([zeros if gradient is None else gradient for gradient, _, _ in results])
        losses = strategy.combine(jnp.stack([info.loss for _, _, info in results]))
        tell_key = jax.random.fold_in(key, count + 1)
        outer_state = strategy.tell(tell_key, carried.outer_state, candidates, losses, gradients)
        gradient = jax.tree.map(lambda x: jnp.mean(x, axis=0), gradients)
        infos = [jax.tree.map(_over_candidates, info) for _, _, info in results]
        states = tuple(state for _, state, _ in results)
        return Carried(strategy.best(outer_state), outer_state, states), gradient, infos

    parts = begin, ask, tuple(for_all(estimate) for estimate in _estimates(estimators, axis)), tell
    on_host = strategy.on_host
    if on_host is None:
        return OuterRule(*parts)

    def after_host(outer_state):
        outer_state = on_host(outer_state)
        return strategy.best(outer_state), outer_state

    return OuterRule(*parts, after_host)


def _estimates(estimators, axis):
    """Each estimator with random numbers of its own: `(key, theta, state, data) -> (gradient, state, info)`."""

    def numbered(i, estimator):
        return lambda key, theta, state, data: estimator.estimate(
            jax.random.fold_in(key, i), theta, state, data, axis_name=axis
        )

    return tuple(numbered(i, estimator) for i, estimator in enumerate(estimators))


def _mean(trees):
    return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *trees)


def _over_candidates(x):
    return jnp.sum(x, axis=0, dtype=x.dtype) if jnp.issubdtype(x.dtype, jnp.integer) else jnp.nanmean(x, axis=0)
