"""Safeguards for an outer optimizer: bounded steps, a return to the best theta, no step on non-finite numbers.

A learned optimizer that trains learned optimizers, or itself, can diverge where a hand-designed one seldom does.
Bounding a tensor's step by the tensor's own size is the trust ratio of You et al. 2017 (LARS,
https://arxiv.org/abs/1708.03888) as an upper limit: steps are shortened, never lengthened.
"""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

_SMALLEST = 1e-2  # root mean square that a tensor of theta is taken to have at least, for its trust ratio


class SafeguardState(NamedTuple):
    """State of a safeguarded outer optimizer."""

    inner: Any  # the outer optimizer's state
    average: jax.Array  # float32[], moving average of the watched loss since the beginning or the last rollback
    count: jax.Array  # int32[], losses in it
    best: jax.Array  # float32[], the lowest average so far
    best_theta: Any  # theta then; () without rollback
    best_inner: Any  # the outer optimizer's state then; () without rollback
    skipped: jax.Array  # int32[], steps not made because something was not finite
    shortened: jax.Array  # int32[], steps that were shortened
    rollbacks: jax.Array  # int32[]
    step_norm: jax.Array  # float32[], norm of the last step before it was shortened

    def report(self) -> dict[str, jax.Array]:
        """Numbers for the metrics of a run; counts are since the beginning."""
        names = ("skipped", "shortened", "rollbacks", "step_norm")
        return {name: getattr(self, name) for name in names}


def safeguarded(
    outer_optimizer: optax.GradientTransformation,
    *,
    max_step: float | None = None,
    trust_ratio: float | None = None,
    max_rise: float | None = None,
    window: int = 20,
    watch: Sequence[int] = (),
) -> optax.GradientTransformationExtraArgs:
    """Wraps an outer optimizer with limits on what a step can do.

    Where the gradient or the step itself is not finite, no step is made and the optimizer's state stays as it was. All
    other safeguards are optional. `fit` reports them in its metrics, as `outer/skipped`, `outer/shortened`,
    `outer/rollbacks` and `outer/step_norm`.

    Args:
      outer_optimizer: any optax transformation with final updates.
      max_step: the largest global norm of a step.
      trust_ratio: the largest norm of a tensor's step, as a share of the tensor's norm, or of that of a tensor of root
        mean square .01 if that is larger.
      max_rise: theta and the optimizer's state go back to where the watched loss was best, when its moving average
        has risen above its best by more than this, in units of the loss: of a logarithmic loss log(2) is a factor of 2.
      window: outer steps that the moving average covers. No rollback happens before so many losses are in it.
      watch: positions among the run's estimators of those whose loss is watched, such as `estimators.watched` ones of
        validation tasks. None: the mean loss of all.

    Returns:
      An `optax.GradientTransformationExtraArgs`. With max_rise, `update` needs `value=`, or `task_losses=` with watch.

    Raises:
      ValueError: if an argument is out of range.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> tx = safeguarded(optax.sgd(1.0), max_step=0.5)
      >>> updates, state = tx.update(jnp.array(3.0), tx.init(jnp.array(1.0)), jnp.array(1.0))
      >>> print(updates, state.shortened)
      -0.5 1
      >>> updates, state = tx.update(jnp.array(jnp.nan), state, jnp.array(0.5))
      >>> print(float(jnp.abs(updates)), state.skipped)
      0.0 1
    """
    for name, bound in {"max_step": max_step, "trust_ratio": trust_ratio, "max_rise": max_rise}.items():
        if bound is not None and not bound > 0:
            raise ValueError(f"{name} must be positive, or None for no such safeguard, got {bound}.")
    if window < 1:
        raise ValueError(f"window must be at least 1 outer step, got {window}.")
    if watch and max_rise is None:
        raise ValueError(f"watch={tuple(watch)} says which losses trigger a rollback: give max_rise as well.")
    tx = optax.with_extra_args_support(outer_optimizer)
    rolls_back = max_rise is not None

    def init(params):
        inner = tx.init(params)
        best_theta, best_inner = jax.tree.map(jnp.copy, (params, inner)) if rolls_back else ((), ())
        zero, none = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32)
        infinity = jnp.full_like(none, jnp.inf)
        return SafeguardState(inner, none, zero, infinity, best_theta, best_inner, zero, zero, zero, none)

    def update(updates, state, params=None, *, value=None, task_losses=None, **extra):
        finite = _is_finite(updates)
        updates = jax.tree.map(lambda u: jnp.where(finite, u, 0), updates)
        extra = extra | {"value": value, "task_losses": task_losses}
        updates, inner = tx.update(updates, state.inner, params, **extra)
        made = finite & _is_finite(updates)
        updates = jax.tree.map(lambda u: jnp.where(made, u, 0), updates)
        inner = _select(made, inner, state.inner)
        step_norm = optax.tree.norm(updates).astype(jnp.float32)
        updates, shortened = _shorten(updates, params, step_norm, max_step, trust_ratio)
        state = state._replace(
            inner=inner,
            skipped=_count(state.skipped, ~made),
            shortened=_count(state.shortened, shortened),
            step_norm=step_norm,
        )
        if not rolls_back:
            return updates, state
        loss = _watched(value, task_losses, watch)
        return _roll_back(updates, state, params, loss, max_rise, window)

    return optax.GradientTransformationExtraArgs(init, update)


def _shorten(updates, params, step_norm, max_step, trust_ratio):
    """Returns the bounded step, and whether a bound was met."""
    shortened = jnp.asarray(False)
    if trust_ratio is not None:
        if params is None:
            raise ValueError("trust_ratio bounds steps by the size of theta: call tx.update(grads, state, theta).")

        def tensor_factor(u, p):
            root_mean_square = jnp.maximum(jnp.sqrt(jnp.mean(jnp.square(p))), _SMALLEST)
            return jnp.minimum(1, trust_ratio * root_mean_square * p.size**0.5 / _positive(jnp.linalg.norm(u.ravel())))

        factors = jax.tree.map(tensor_factor, updates, params)
        updates = jax.tree.map(lambda u, f: u * f.astype(u.dtype), updates, factors)
        shortened |= jnp.any(jnp.stack(jax.tree.leaves(factors)) < 1)
        step_norm = optax.tree.norm(updates)
    if max_step is not None:
        factor = jnp.minimum(1, max_step / _positive(step_norm))
        updates = jax.tree.map(lambda u: u * factor.astype(u.dtype), updates)
        shortened |= factor < 1
    return updates, shortened


def _roll_back(updates, state, params, loss, max_rise, window):
    """Goes back to the best theta if the watched loss has risen; remembers theta if it is the best."""
    known = jnp.isfinite(loss)  # a loss that is not, where all particles were dropped, tells nothing
    count = _count(state.count, known)
    weight = 1 / jnp.clip(count, 1, window).astype(jnp.float32)
    average = jnp.where(known, state.average + weight * (loss - state.average), state.average)
    counts = count >= window
    improved = counts & (average < state.best)
    risen = counts & (average > state.best + max_rise)
    old_theta, old_inner = state.best_theta, state.best_inner
    back = lambda u, p, b: jnp.where(risen, b - p, u)
    updates = jax.tree.map(back, updates, params, old_theta)
    state = state._replace(
        inner=_select(risen, old_inner, state.inner),
        average=jnp.where(risen, 0.0, average),
        count=jnp.where(risen, 0, count),
        best=jnp.where(improved, average, state.best),
        best_theta=_select(improved, params, old_theta),
        best_inner=_select(improved, state.inner, old_inner),
        rollbacks=_count(state.rollbacks, risen),
    )
    return updates, state


def _watched(value, task_losses, watch):
    if not watch:
        if value is None:
            raise ValueError("max_rise watches the loss: pass it to update as value=.")
        return jnp.asarray(value, jnp.float32)
    if task_losses is None:
        raise ValueError("watch names tasks, but update got no task_losses=: a search tells its members the mean only.")
    if not all(0 <= position < task_losses.shape[0] for position in watch):
        raise ValueError(
            f"watch must hold positions of the {task_losses.shape[0]} estimators, counted from 0, got {tuple(watch)}."
        )
    return jnp.mean(task_losses[jnp.asarray(tuple(watch))].astype(jnp.float32))


def _count(number, condition):
    return number + condition.astype(number.dtype)


def _select(condition, if_true, if_false):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), if_true, if_false)


def _is_finite(tree):
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _positive(x):
    return jnp.maximum(x, jnp.finfo(x.dtype).tiny)
