r"""Guided evolution strategies: perturbations that are longer along recent gradients of another, cheaper estimator.

Maheswaranathan, Metz, Tucker, Choi, Sohl-Dickstein 2018, "Guided evolutionary strategies: Augmenting random search
with surrogate gradients", https://arxiv.org/abs/1806.10230

Deviations: the covariance has trace n on n weights, where the paper's has 1, so that std is in units of theta as
elsewhere, and alpha = 1 is the plain strategy. The paper's :math:`\sigma` and :math:`\beta` are :math:`\sqrt n` and n
times those here. A surrogate gradient in the span of newer ones, or a missing one, leaves its share of the variance to
the others.
"""

from collections.abc import Callable
import functools
import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_optim import checks
from meta_train.estimators import sliced
from meta_train.estimators.antithetic import Shaping
from meta_train.estimators.base import Estimator
from meta_train.estimators.pes import pes
from meta_train.estimators.truncated_backprop import truncated_backprop
from meta_train.unroll import perturbations
from meta_train.unroll.capabilities import require_steps
from meta_train.unroll.problem import Problem
from meta_train.unroll.truncation import Horizon

_LEAST_ANGLE = 1e-3  # radians; a direction this close to the span of newer ones adds nothing to it


class GuidedESState(NamedTuple):
    """State of the guided strategy."""

    strategy: Any  # that of the evolution strategy
    surrogate: Any  # that of the estimator of surrogate gradients
    # float[particles, num_directions, slice], unit vectors along surrogate gradients, newest first, zeros before there
    # were as many; slices of [num_directions, weights of theta]
    directions: jax.Array


def guided_es(
    problem: Problem,
    *,
    num_particles: int,
    unroll_length: int,
    horizon: Horizon,
    std: float = 0.01,
    stagger: bool = True,
    shaping: Shaping | None = None,
    surrogate: Estimator | None = None,
    num_directions: int = 4,
    alpha: float = 0.5,
    beta: float = 1.0,
    strategy: Callable[..., Estimator] = pes,
) -> Estimator:
    r"""Builds an evolution strategy whose perturbations are guided by the gradients of another estimator.

    .. math:: \epsilon \sim \mathcal N(0, \sigma^2 \Sigma), \quad
        \Sigma = \alpha I + (1 - \alpha) \frac{n}{k} U U^\top, \quad E \hat g = \beta \Sigma \nabla L

    The columns of U are an orthonormal basis of the last k surrogate gradients, that of the outer step itself included.
    The surrogate may be biased: the strategy measures the loss along it, both ways. As Σ is positive definite unless
    alpha is 0, the mean of the estimate is a descent direction whatever the surrogate says. The more of the gradient
    lies in the guiding subspace, the less noise there is relative to it, since n dimensions of search become k. The
    scale depends on that part too, so let an outer optimizer such as Adam choose the steps. Where the surrogate is
    wrong, a share 1 - alpha of the perturbations is spent on nothing.

    Args:
      problem: what to differentiate. Only a surrogate by backpropagation needs derivatives.
      num_particles: antithetic pairs.
      unroll_length: window, in inner steps; at most the shortest episode.
      horizon: distribution of episode lengths.
      std: σ, the root mean square of a perturbation's coordinates, in units of theta.
      stagger: whether the pairs start at random offsets.
      shaping: an odd function of the pairs' loss differences; see `gpes`.
      surrogate: any estimator of the problem. By default `truncated_backprop` with the same particles and windows.
      num_directions: k, the number of surrogate gradients that span the subspace.
      alpha: α, the share of variance that is spent on all directions alike, from 0 to 1.
      beta: β, a factor of the estimate.
      strategy: builds the evolution strategy: `pes`, `nres` or `truncated_es`, or anything that takes their arguments.
        With `pes` and `nres` each perturbation counts with the covariance that it was drawn from: where surrogates
        change within an episode, the estimate is the sum of each window's part of the gradient times that window's Σ.
        `truncated_es` is blind to what happened before a window, as truncated backpropagation is.

    Returns:
      An `Estimator`. `info` is that of the strategy, with the surrogate's inner steps included. Its `num_particles`, by
      which devices are chosen, is the greatest common divisor of this one and the surrogate's. A surrogate gradient
      that is zero or not finite is not kept.

    Raises:
      ValueError: if num_particles, unroll_length, std, num_directions or alpha is out of range; when it is traced, if
        the surrogate gives no gradient.
      TypeError: if num_directions is not a whole number.

    Example: with alpha = 0 the estimate lies along the surrogate gradients, here those of (a + b)² that windows see.
      >>> import jax, jax.numpy as jnp
      >>> from meta_train import Problem, truncation
      >>> problem = Problem(
      ...     init=lambda key, theta, num_steps: jnp.zeros(()),
      ...     step=lambda key, theta, state, data: (state + jnp.sum(theta), state + jnp.sum(theta) ** 2),
      ... )
      >>> estimator = guided_es(
      ...     problem, num_particles=4, unroll_length=2, horizon=truncation.constant(4), alpha=0.0)
      >>> theta = jnp.ones(2)
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> gradient, state, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
      >>> bool(abs(gradient[0] - gradient[1]) < 1e-3 * abs(gradient[0]))
      True

    References:
      Maheswaranathan et al. 2018, https://arxiv.org/abs/1806.10230
    """
    require_steps(problem, "guided_es")
    num_directions = checks.whole_number("num_directions", num_directions, 1)
    _check_alpha(alpha)
    sizes = {"num_particles": num_particles, "unroll_length": unroll_length, "horizon": horizon, "stagger": stagger}
    build = functools.partial(strategy, problem, std=std, shaping=shaping, **sizes)
    plain = build()
    guide = truncated_backprop(problem, **sizes) if surrogate is None else surrogate
    slices = math.gcd(num_particles, guide.num_particles)

    def init(key, theta):
        strategy_key, surrogate_key = jax.random.split(key)
        flat = perturbations.ravel(theta)[0]
        directions = sliced.cut(jnp.zeros((num_directions, flat.size), flat.dtype), slices)
        return GuidedESState(plain.init(strategy_key, theta), guide.init(surrogate_key, theta), directions)

    def estimate(key, theta, state, data, axis_name=None):
        strategy_key, surrogate_key = jax.random.split(key)
        hint, surrogate_state, hint_info = guide.estimate(
            surrogate_key, theta, state.surrogate, data[1], axis_name=axis_name
        )
        if jax.tree.leaves(theta) and not jax.tree.leaves(hint):
            raise ValueError(
                "guided_es needs a gradient of its surrogate, and it gives none: choose another estimator."
            )
        flat = perturbations.ravel(hint)[0]
        directions = _push(flat, sliced.join(state.directions, flat.size, axis_name))
        guided = build(draw=_drawn_along(orthonormal(directions), alpha))
        gradient, strategy_state, info = guided.estimate(
            strategy_key, theta, state.strategy, data[0], axis_name=axis_name
        )
        info = info._replace(
            inner_steps=info.inner_steps + hint_info.inner_steps,
            gradient_variance=beta**2 * info.gradient_variance,
            coordinate_variances=optax.tree.scale(beta**2, info.coordinate_variances),
        )
        directions = sliced.cut_like(directions, state.directions, axis_name)
        return optax.tree.scale(beta, gradient), GuidedESState(strategy_state, surrogate_state, directions), info

    return Estimator(init, estimate, (plain.data, guide.data), slices, problem.name)


def orthonormal(directions: jax.Array) -> jax.Array:
    """An orthonormal basis of the span of rows, in which a row that adds nothing to those before it gives zeros.

    Args:
      directions: float[rows, size], each row a unit vector or zero.

    Returns:
      float[rows, size].

    Example:
      >>> import jax.numpy as jnp
      >>> print(orthonormal(jnp.array([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8]])))
      [[1. 0.]
       [0. 0.]
       [0. 1.]]
    """
    dot = functools.partial(jnp.dot, precision=jax.lax.Precision.HIGHEST)

    def body(i, basis):
        rest = directions[i]
        for _ in range(2):  # the second time for what rounding left
            rest = rest - dot(dot(basis, rest), basis)
        norm = jnp.linalg.norm(rest)
        new = norm > _LEAST_ANGLE
        return basis.at[i].set(jnp.where(new, rest / jnp.where(new, norm, 1), 0))

    return jax.lax.fori_loop(0, directions.shape[0], body, jnp.zeros_like(directions))


def _push(gradient, directions):
    """Puts a gradient's direction before the others, of which the last falls out, if the gradient has a direction."""
    largest = jnp.max(jnp.abs(gradient), initial=0)  # the initial one if there are no weights
    usable = (largest > 0) & jnp.isfinite(largest)  # NaN is the largest wherever there is one
    scaled = jnp.where(usable, gradient / jnp.where(usable, largest, 1), 0)  # its square does not overflow
    direction = scaled / jnp.where(usable, jnp.linalg.norm(scaled), 1)
    return jnp.where(usable, jnp.concatenate([direction[None], directions[:-1]]), directions)


def _drawn_along(basis, alpha):
    """Draws perturbations that spend the share 1 - alpha of their variance on the basis's span."""
    num_directions, size = basis.shape
    rank = jnp.sum(jnp.any(basis != 0, axis=1), dtype=basis.dtype)
    everywhere = jnp.where(rank > 0, jnp.asarray(alpha, basis.dtype), 1)
    along = (1 - everywhere) * size / jnp.maximum(rank, 1)

    def draw(key, theta, std):
        unravel = perturbations.ravel(theta)[1]
        all_key, guided_key = jax.random.split(key)
        noise = jnp.sqrt(everywhere) * jax.random.normal(all_key, (size,), basis.dtype)
        guided = jnp.sqrt(along) * jax.random.normal(guided_key, (num_directions,), basis.dtype)
        return unravel(std * (noise + guided @ basis))

    return draw


def _check_alpha(alpha):
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}: 1 ignores the surrogate, 0 sees nothing else.")
