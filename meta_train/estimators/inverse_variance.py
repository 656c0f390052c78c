"""Estimates of one gradient combined by inverse variance, each coordinate for itself: backprop where it is precise.

Metz et al. 2019, "Understanding and correcting pathologies in the training of learned optimizers",
https://arxiv.org/abs/1810.10180, section 4: backpropagation through the unrolled steps together with evolution
strategies. Where derivatives explode the former's variance does too, and the latter takes over.

Deviations: variances are moving averages over outer steps of those among an outer step's particles (`decay=0` is the
paper). The paper's two gradients share their samples; here each estimator has particles of its own.
"""

from collections.abc import Sequence
import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from meta_train.estimators import sliced
from meta_train.estimators.base import Estimator
from meta_train.estimators.base import Info
from meta_train.unroll import perturbations

_LARGEST = 1e30  # a larger variance counts as this one: moving averages stay finite, and forget it at some time


class InverseVarianceState(NamedTuple):
    """State of the combination."""

    states: tuple[Any, ...]  # those of the estimators
    # float32[particles, estimators, slice], moving averages of the variances, slices of [estimators, weights of theta]
    variances: jax.Array
    steps: jax.Array  # int32[particles, estimators], outer steps in the averages, the same for all particles


def inverse_variance(estimators: Sequence[Estimator], *, decay: float = 0.9) -> Estimator:
    r"""Builds the estimator that averages others with weights inverse to their variances.

    .. math:: \hat g = \sum_i w_i \hat g_i, \quad w_i = \frac{1 / v_i}{\sum_j 1 / v_j}

    for each coordinate, where :math:`v_i` is the variance of the i-th estimate: among the particles of an outer step,
    over their number, averaged over outer steps. If the estimates are unbiased and independent, this is their
    combination of least variance.

    Weights know nothing of bias. Windows of `truncated_backprop` have little variance, so they would outvote an
    unbiased `pes` and bring their bias with them. Combine estimators of one objective: `full_backprop` with `full_es`
    or `pes`, `truncated_backprop` with `truncated_es`. Backpropagation of a run without noise has no variance, however
    large its derivatives; `problems.smoothed` gives it the perturbations of theta that evolution strategies see, as in
    the paper.

    These guards hold for each coordinate. An estimate that is not finite, or of fewer than two finite particles, has
    weight 0. An estimate without variance has all the weight, shared with others of this kind; but one that is exactly
    zero on all particles, as of weights that a window does not see, counts only if all are. A variance beyond 1e30
    counts as 1e30. An explosion is remembered: at a decay of .9 a factor of a million takes 130 outer steps.

    Args:
      estimators: two or more, of one problem, each of at least two particles. They must report
        `Info.coordinate_variances`, as `mean_over_particles` does. Wrap the combination in `normalized`, not its parts.
      decay: of the moving averages, for an outer step; 0 uses the variances of the step alone. Averages make weights
        precise and nearly independent of the estimates that they weigh. The step itself is in its average with a
        weight of 1 - decay, so that an explosion counts at once.

    Returns:
      An `Estimator`. Its `num_particles`, by which devices are chosen, is the greatest common divisor of the others'.
      `info.loss` is the mean of their losses, `info.dropped` and `info.inner_steps` are sums. `info.step_losses` is the
      mean too, if they report it in one shape.

    Raises:
      ValueError: if there are fewer than two estimators, one has fewer than two particles, or decay is not in [0, 1);
        when it is traced, if an estimator gives no gradient or no variances.

    Example: gradients of 1 with unit noise, from 2 particles and from 6. Weights are 1/4 and 3/4.
      >>> import jax, jax.numpy as jnp
      >>> from meta_train import Problem, estimators, truncation
      >>> problem = Problem(
      ...     init=lambda key, theta, num_steps: (),
      ...     step=lambda key, theta, state, data: ((), theta * (1 + jax.random.normal(key))),
      ... )
      >>> parts = [
      ...     estimators.truncated_backprop(
      ...         problem, num_particles=count, unroll_length=1, horizon=truncation.constant(1))
      ...     for count in (2, 6)
      ... ]
      >>> estimator = inverse_variance(parts, decay=0.99)
      >>> theta, estimate = jnp.zeros(()), jax.jit(estimator.estimate)
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> for step in range(300):
      ...     gradient, state, info = estimate(jax.random.key(step), theta, state, estimator.data)
      >>> bool(abs(info.gradient_variance - 1 / 8) < 0.03)
      True

    References:
      Metz et al. 2019, https://arxiv.org/abs/1810.10180
    """
    _check(estimators, decay)
    num_particles = math.gcd(*(estimator.num_particles for estimator in estimators))

    def init(key, theta):
        states = tuple(e.init(jax.random.fold_in(key, i), theta) for i, e in enumerate(estimators))
        shape = (len(estimators), perturbations.ravel(theta)[0].size)
        variances = sliced.cut(jnp.zeros(shape, jnp.float32), num_particles)
        return InverseVarianceState(states, variances, jnp.zeros((num_particles, len(estimators)), jnp.int32))

    def estimate(key, theta, state, data, axis_name=None):
        results = [
            e.estimate(jax.random.fold_in(key, i), theta, inner, data[i], axis_name=axis_name)
            for i, (e, inner) in enumerate(zip(estimators, state.states, strict=True))
        ]
        infos = [info for _, _, info in results]
        gradients = _rows([gradient for gradient, _, _ in results], "gradient")
        now, known = _variances(_rows([info.coordinate_variances for info in infos], "coordinate variances"), gradients)
        old = sliced.join(state.variances, gradients.shape[1], axis_name)
        averages = jnp.where(known[:, None], decay * old + (1 - decay) * now, old)
        steps = state.steps[0] + known.astype(jnp.int32)
        begun = jnp.where(steps > 0, 1 - jnp.float32(decay) ** steps.astype(jnp.float32), 1)
        variances = averages / begun[:, None]
        shares = weights(gradients, variances, known)
        finite = jnp.where(jnp.isfinite(gradients), gradients, 0)
        unravel = perturbations.ravel(theta)[1]
        gradient = unravel(jnp.sum(shares.astype(finite.dtype) * finite, axis=0))
        following = InverseVarianceState(
            tuple(inner for _, inner, _ in results),
            sliced.cut_like(averages, state.variances, axis_name),
            jnp.broadcast_to(steps, state.steps.shape),
        )
        noise = jnp.where(jnp.any(known), jnp.sum(jnp.square(shares) * variances, axis=0), jnp.nan)
        return gradient, following, _info(infos, gradient, noise)

    data = tuple(estimator.data for estimator in estimators)
    return Estimator(init, estimate, data, num_particles, estimators[0].name)


def weights(gradients: jax.Array, variances: jax.Array, known: jax.Array) -> jax.Array:
    """Weights inverse to variances, for each coordinate.

    Args:
      gradients: float[estimators, weights of theta].
      variances: float32[estimators, weights of theta], finite where known.
      known: bool[estimators], whether an estimate is to be used.

    Returns:
      float32[estimators, weights of theta]. Columns add up to 1, or are 0 if no estimate has anything to say.

    Example:
      >>> import jax.numpy as jnp
      >>> print(weights(jnp.ones((2, 1)), jnp.array([[1.0], [3.0]]), jnp.array([True, True])))
      [[0.75]
       [0.25]]
    """
    silent = (variances == 0) & (gradients == 0)
    usable = known[:, None] & ~silent
    variances = jnp.where(usable, variances, jnp.inf)
    least = jnp.min(variances, axis=0)
    relative = jnp.where(variances > least, least / variances, 1)  # of the most precise estimate: 1
    relative = jnp.where(usable, relative, 0)
    return relative / jnp.maximum(jnp.sum(relative, axis=0), 1)


def _rows(trees, what):
    """Trees like theta as rows of one array."""
    for i, tree in enumerate(trees):
        if not jax.tree.leaves(tree):
            raise ValueError(
                f"inverse_variance needs the {what} of all estimators, and number {i} gives none: choose estimators of "
                "the gradient that average their particles with mean_over_particles."
            )
    return jnp.stack([perturbations.ravel(tree)[0] for tree in trees])


def _variances(variances, gradients):
    """Variances float32[estimators, weights] that are finite, and bool[estimators] whether there are any."""
    variances = variances.astype(jnp.float32)
    known = ~jnp.all(jnp.isnan(variances), axis=1)
    sound = jnp.isfinite(gradients) & (variances < _LARGEST)  # false for NaN
    return jnp.where(sound, variances, _LARGEST), known


def _info(infos, gradient, noise):
    """What the combination reports; noise is the variance of each of its coordinates."""
    total = lambda counts: jnp.sum(jnp.stack(counts), dtype=jnp.int32)
    mean = lambda values: jnp.nanmean(jnp.stack(values), axis=0)
    trace, by_step = jnp.sum(noise), jax.tree.leaves([info.step_losses for info in infos])
    comparable = len(by_step) == len(infos) and len({losses.shape for losses in by_step}) == 1
    square = sum(jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(gradient))
    flat, unravel = perturbations.ravel(infos[0].coordinate_variances)
    return Info(
        mean([info.loss for info in infos]),
        total([info.dropped for info in infos]),
        total([info.inner_steps for info in infos]),
        trace,
        square / trace,
        mean(by_step) if comparable else (),
        unravel(noise.astype(flat.dtype)),
    )


def _check(estimators, decay):
    if len(estimators) < 2:
        raise ValueError(f"inverse_variance combines two or more estimators, got {len(estimators)}.")
    for i, estimator in enumerate(estimators):
        if estimator.num_particles < 2:
            raise ValueError(
                f"inverse_variance measures the spread of particles, and estimator {i} has {estimator.num_particles}: "
                "give it at least 2."
            )
    if not 0 <= decay < 1:
        raise ValueError(f"decay must lie in [0, 1), got {decay}: 0 uses the variances of each outer step alone.")
