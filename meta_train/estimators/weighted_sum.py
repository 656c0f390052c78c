"""Several estimators at once, whose weights change over outer steps: imitation that fades while PES takes over.

The meta-training of ELO, https://arxiv.org/abs/2607.06772: the loss of imitating an expert beside the meta-loss, with a
weight that decays to zero between outer steps 5,000 and 50,000.
"""

from collections.abc import Callable
from collections.abc import Sequence
import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from meta_train.estimators.base import Estimator
from meta_train.estimators.base import Info


class WeightedSumState(NamedTuple):
    """State of the sum."""

    step: jax.Array  # int32[particles], outer steps made, the same for all particles
    states: tuple[Any, ...]  # those of the estimators; they stand still while their weights are zero


def weighted_sum(estimators: Sequence[Estimator], weights: Sequence[float | Callable[[jax.Array], Any]]) -> Estimator:
    r"""Builds the estimator of a weighted sum of objectives, from an estimator of each.

    .. math:: \hat g = \sum_i w_i(n) \hat g_i

    at outer step n. An estimator whose weight is zero does not run, costs nothing, and keeps its state.

    The scales of the objectives' gradients differ. To weigh directions alone, wrap each estimator in `normalized`.

    Args:
      estimators: one or more, each of an objective, with particles of its own.
      weights: for each, a number, or a function from the outer step int32[], counted from 0, to one, such as an optax
        schedule. `optax.linear_schedule(1.0, 0.0, 45_000, 5_000)` is ELO's for imitation.

    Returns:
      An `Estimator` with the name of the first. Its `num_particles`, by which devices are chosen, is the greatest
      common divisor of the others'. `info.loss` is the weighted sum of the losses, so it moves with the weights too.
      `info.dropped` and `info.inner_steps` are sums over those that ran, and variances add up with the squares of the
      weights. `info.step_losses` is ().

    Raises:
      ValueError: if there is no estimator, or the numbers of estimators and weights differ; when it is traced, if an
        estimator gives no gradient.

    Example: slopes 1 and 3, of which the first fades over two outer steps.
      >>> import optax
      >>> from meta_train import Problem, estimators, truncation
      >>> linear = lambda slope: estimators.truncated_backprop(
      ...     Problem(lambda key, theta, num_steps: (), lambda key, theta, state, data: ((), slope * theta)),
      ...     num_particles=2, unroll_length=1, horizon=truncation.constant(1))
      >>> estimator = weighted_sum([linear(1.0), linear(3.0)], [optax.linear_schedule(1.0, 0.0, 2), 0.5])
      >>> state = estimator.init(jax.random.key(0), 0.0)
      >>> estimate = jax.jit(estimator.estimate)
      >>> for step in range(3):
      ...     gradient, state, _ = estimate(jax.random.key(step), 0.0, state, estimator.data)
      ...     print(gradient)
      2.5
      2.0
      1.5

    References:
      ELO, https://arxiv.org/abs/2607.06772
    """
    if not estimators or len(estimators) != len(weights):
        raise ValueError(
            f"weighted_sum takes one or more estimators and a weight for each, got {len(estimators)} estimators and "
            f"{len(weights)} weights."
        )
    num_particles = math.gcd(*(estimator.num_particles for estimator in estimators))

    def init(key, theta):
        states = tuple(e.init(jax.random.fold_in(key, i), theta) for i, e in enumerate(estimators))
        return WeightedSumState(jnp.zeros((num_particles,), jnp.int32), states)

    def estimate(key, theta, state, data, axis_name=None):
        shares = [_weight(weight, state.step[0]) for weight in weights]
        results = [
            _unless_zero(e, share, i, jax.random.fold_in(key, i), theta, inner, data[i], axis_name)
            for i, (e, share, inner) in enumerate(zip(estimators, shares, state.states, strict=True))
        ]
        gradient = _sum(shares, [gradient for gradient, _, _ in results])
        following = WeightedSumState(state.step + 1, tuple(inner for _, inner, _ in results))
        return gradient, following, _info(shares, [info for _, _, info in results], gradient)

    data = tuple(estimator.data for estimator in estimators)
    return Estimator(init, estimate, data, num_particles, estimators[0].name)


def _weight(weight, step):
    return jnp.asarray(weight(step) if callable(weight) else weight, jnp.float32)


def _unless_zero(estimator, weight, number, key, theta, state, data, axis_name):
    """What the estimator gives; zeros and its state as it was where it has no weight."""

    def run(state):
        gradient, state, info = estimator.estimate(key, theta, state, data, axis_name=axis_name)
        if gradient is None:
            raise ValueError(f"weighted_sum adds gradients, and estimator {number} gives losses only.")
        return gradient, state, jax.tree.map(jnp.asarray, info._replace(step_losses=()))

    gradient, _, info = jax.eval_shape(run, state)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (gradient, info))
    return jax.lax.cond(weight != 0, run, lambda state: (nothing[0], state, nothing[1]), state)


def _sum(weights, trees, power=1):
    """The sum of trees of one structure, each times its weight to a power."""
    add = lambda *leaves: sum(w.astype(x.dtype) ** power * x for w, x in zip(weights, leaves, strict=True))
    return jax.tree.map(add, *trees)


def _info(weights, infos, gradient):
    count = lambda numbers: jnp.sum(jnp.stack(numbers), dtype=jnp.int32)
    variances = [info.coordinate_variances for info in infos]
    known = all(jax.tree.leaves(tree) for tree in variances)
    trace = _sum(weights, [info.gradient_variance for info in infos], power=2)
    square = sum(jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(gradient))
    return Info(
        loss=_sum(weights, [info.loss for info in infos]),
        dropped=count([info.dropped for info in infos]),
        inner_steps=count([info.inner_steps for info in infos]),
        gradient_variance=trace,
        snr=square / trace,
        coordinate_variances=_sum(weights, variances, power=2) if known else (),
    )
