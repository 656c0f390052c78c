"""One outer step: the estimators' gradients moved by an outer optimizer, or their losses told to a search.

`descending` and `searching` return the same pair of functions:

  begin: `(key, theta) -> (theta, outer_state, estimator_states)`.
  update: `(key, theta, outer_state, estimator_states, data) -> ((theta, outer_state, estimator_states), gradient,
    infos)`, with the gradient averaged over the tasks and one `Info` for each.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from meta_train.estimators.base import Estimator
from meta_train.outer.search.base import SearchStrategy

OuterStep = tuple[Callable[..., tuple[Any, Any, Any]], Callable[..., tuple[Any, Any, Any]]]


def descending(estimators: Sequence[Estimator], outer_optimizer: optax.GradientTransformation, axis: str) -> OuterStep:
    """Steps by an outer optimizer. The particles lie on the mapped `axis`.

    The outer optimizer gets the mean loss as `value=` and those of all estimators, float[tasks], as `task_losses=`.
    """
    tx = optax.with_extra_args_support(outer_optimizer)

    def begin(key, theta):
        states = tuple(e.init(jax.random.fold_in(key, i), theta) for i, e in enumerate(estimators))
        return theta, tx.init(theta), states

    def update(key, theta, outer_state, estimator_states, data):
        results = [
            estimator.estimate(jax.random.fold_in(key, i), theta, estimator_state, data[i], axis_name=axis)
            for i, (estimator, estimator_state) in enumerate(zip(estimators, estimator_states, strict=True))
        ]
        gradients, estimator_states, infos = zip(*results, strict=True)
        if any(gradient is None for gradient in gradients):
            raise ValueError(
                "an outer optimizer needs estimators of the gradient, got one that gives losses only, such as "
                "search.episodes: choose another, or give a search in place of the outer optimizer."
            )
        gradient, losses = _mean(gradients), jnp.stack([info.loss for info in infos])
        extra = {"value": jnp.mean(losses), "task_losses": losses}
        updates, outer_state = tx.update(gradient, outer_state, theta, **extra)
        return (optax.apply_updates(theta, updates), outer_state, estimator_states), gradient, infos

    return begin, update


def searching(estimators: Sequence[Estimator], strategy: SearchStrategy, axis: str) -> OuterStep:
    """Steps by a search: it asks, every estimator runs on all candidates with the same random numbers, it is told.

    An estimator's state is one for each candidate: leaves [particles, candidates, …]. Its `Info` is over all of them:
    counts add up, the rest are means over the candidates for which they are numbers.
    """
    count = len(estimators)

    def begin(key, theta):
        for_all = lambda x: jnp.repeat(x[:, None], strategy.num_candidates, axis=1)
        states = [e.init(jax.random.fold_in(key, i), theta) for i, e in enumerate(estimators)]
        return theta, strategy.init(jax.random.fold_in(key, count), theta), tuple(jax.tree.map(for_all, states))

    def update(key, theta, outer_state, estimator_states, data):
        del theta
        candidates = strategy.ask(jax.random.fold_in(key, count), outer_state)
        results = []
        for i, (estimator, estimator_state) in enumerate(zip(estimators, estimator_states, strict=True)):

            def estimate(theta, state, i=i, estimator=estimator):
                return estimator.estimate(jax.random.fold_in(key, i), theta, state, data[i], axis_name=axis)

            results.append(jax.vmap(estimate, in_axes=(0, 1), out_axes=(0, 1, 0))(candidates, estimator_state))
        gradients, estimator_states, infos = zip(*results, strict=True)
        zeros = optax.tree.zeros_like(candidates)
        gradients = _mean([zeros if gradient is None else gradient for gradient in gradients])
        losses = jnp.mean(jnp.stack([info.loss for info in infos]), axis=0)
        outer_state = strategy.tell(jax.random.fold_in(key, count + 1), outer_state, candidates, losses, gradients)
        gradient = jax.tree.map(lambda x: jnp.mean(x, axis=0), gradients)
        infos = [jax.tree.map(_over_candidates, info) for info in infos]
        return (strategy.best(outer_state), outer_state, estimator_states), gradient, infos

    return begin, update


def _mean(trees):
    return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *trees)


def _over_candidates(x):
    return jnp.sum(x, axis=0, dtype=x.dtype) if jnp.issubdtype(x.dtype, jnp.integer) else jnp.nanmean(x, axis=0)
