"""Noise-reuse evolution strategies: as PES, with one perturbation for a whole episode.

Li, Harrison, Sohl-Dickstein, Smith, Metz 2023, "Noise-Reuse in Online Evolution Strategies",
https://arxiv.org/abs/2304.12180; the same estimator is ES-Single of Vicol, Kolter, Swersky 2023, "Low-Variance
Gradient Estimation in Unrolled Computation Graphs with ES-Single", https://arxiv.org/abs/2304.11153

Deviations: an episode may end inside of a window. Losses before the end are weighted by the old episode's perturbation,
losses after it run under the new episode's and are weighted by it.
"""

from meta_train.estimators import noise_policy
from meta_train.estimators.antithetic import Shaping
from meta_train.estimators.base import Estimator
from meta_train.estimators.base import PerturbationFn
from meta_train.estimators.persistent_es import persistent_es
from meta_train.unroll.perturbations import perturbation
from meta_train.unroll.problem import Problem
from meta_train.unroll.truncation import Horizon


def nres(
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
    r"""Builds the NRES estimator with antithetic pairs.

    .. math:: \hat g = \frac{1}{2 \sigma^2 N K} \sum_{i=1}^{N} \sum_{t=1}^{K} \epsilon_i \, (L_{i,t}^+ - L_{i,t}^-)

    where each pair keeps its perturbation :math:`\epsilon_i`, and its two states, until its episode ends. It is
    unbiased for the gradient of the mean loss per step under Gaussian smoothing of theta (one perturbation an episode),
    with less variance than PES where the loss is about linear in the perturbations.

    Args:
      problem: what to differentiate; nothing needs to be differentiable.
      num_particles: antithetic pairs N. Memory is linear in it, and independent of the horizon.
      unroll_length: window K, in inner steps; at most the shortest episode.
      horizon: distribution of episode lengths.
      std: standard deviation of each episode's perturbation, in units of theta.
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
      >>> estimator = nres(problem, num_particles=1000, unroll_length=2, horizon=truncation.constant(4))
      >>> theta, estimate = jnp.zeros(()), jax.jit(estimator.estimate)
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> gradients = []
      >>> for step in range(40):
      ...     gradient, state, info = estimate(jax.random.key(step), theta, state, estimator.data)
      ...     gradients.append(float(gradient))
      >>> abs(sum(gradients) / len(gradients) - 2.5) < 0.1
      True

    References:
      Li et al. 2023, https://arxiv.org/abs/2304.12180
    """
    return persistent_es(
        problem,
        noise_policy.whole_episode(std),
        "nres",
        num_particles=num_particles,
        unroll_length=unroll_length,
        horizon=horizon,
        std=std,
        stagger=stagger,
        shaping=shaping,
        draw=draw,
    )
