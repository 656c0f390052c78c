"""Persistent evolution strategies: unbiased gradients from truncated unrolls, without backpropagation.

Vicol, Metz, Sohl-Dickstein 2021, "Unbiased Gradient Estimation in Unrolled Computation Graphs with Persistent
Evolution Strategies", https://arxiv.org/abs/2112.13835

Deviations: an episode may end inside of a window. Losses before the end are weighted by the perturbations of the old
episode, losses after it by the new window's alone.
"""

from meta_train.estimators import noise_policy
from meta_train.estimators.antithetic import Shaping
from meta_train.estimators.base import Estimator
from meta_train.estimators.base import PerturbationFn
from meta_train.estimators.persistent_es import persistent_es
from meta_train.unroll.perturbations import perturbation
from meta_train.unroll.problem import Problem
from meta_train.unroll.truncation import Horizon


def pes(
    problem: Problem,
    *,
    num_particles: int,
    unroll_length: int,
    horizon: Horizon,
    std: float = 0.01,
    stagger: bool = True,
    shaping: Shaping | None = None,
    draw: PerturbationFn = perturbation,
) -> Estimator:
    r"""Builds the PES estimator with antithetic pairs.

    .. math:: \hat g = \frac{1}{2 \sigma^2 N K} \sum_{i=1}^{N} \sum_{t=1}^{K} \xi_i \, (L_{i,t}^+ - L_{i,t}^-)

    where each window adds a fresh perturbation to the pair's :math:`\xi_i`, and the two states of a pair live on from
    window to window, each under its own sign. It is unbiased for the gradient of the mean loss per step under Gaussian
    smoothing of theta (perturbations redrawn each window), whatever the ratio of window to horizon.

    Args:
      problem: what to differentiate; nothing needs to be differentiable.
      num_particles: antithetic pairs N. Memory is linear in it, and independent of the horizon.
      unroll_length: window K, in inner steps; at most the shortest episode.
      horizon: distribution of episode lengths.
      std: standard deviation of each window's perturbation, in units of theta.
      stagger: whether the pairs start at random offsets.
      shaping: an odd function of the pairs' loss differences; it biases the gradient. See `gpes`.
      draw: draws the perturbations, by default independent normal numbers. With another covariance, the estimate is the
        gradient times that covariance over std². `guided_es` uses it.

    Returns:
      An `Estimator`.

    Raises:
      ValueError: if num_particles, unroll_length or std is out of range.

    Example: the gradient of the mean of (theta * step) over 4 steps is 2.5.
      >>> import jax, jax.numpy as jnp
      >>> from meta_train import Problem, truncation
      >>> problem = Problem(
      ...     init=lambda key, theta, num_steps: jnp.zeros(()),
      ...     step=lambda key, theta, state, data: (state + theta, state + theta),
      ... )
      >>> estimator = pes(problem, num_particles=1000, unroll_length=2, horizon=truncation.constant(4))
      >>> theta = jnp.zeros(())
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> gradients, estimate = [], jax.jit(estimator.estimate)
      >>> for step in range(40):
      ...     gradient, state, info = estimate(jax.random.key(step), theta, state, estimator.data)
      ...     gradients.append(float(gradient))
      >>> abs(sum(gradients) / len(gradients) - 2.5) < 0.1
      True

    References:
      Vicol et al. 2021, https://arxiv.org/abs/2112.13835
    """
    return persistent_es(
        problem,
        noise_policy.every_window(),
        "pes",
        num_particles=num_particles,
        unroll_length=unroll_length,
        horizon=horizon,
        std=std,
        stagger=stagger,
        shaping=shaping,
        draw=draw,
    )
