"""Generalized persistent evolution strategies: perturbations that last longer than a window.

Li, Harrison, Sohl-Dickstein, Smith, Metz 2023, "Noise-Reuse in Online Evolution Strategies",
https://arxiv.org/abs/2304.12180

PES draws a perturbation for every window, NRES one for every episode; GPES is the family between them.
`persistent_es.py` has the estimator that all three share, and its deviations from the paper.
"""

from meta_train.estimators import noise_policy
from meta_train.estimators.antithetic import Shaping
from meta_train.estimators.base import Estimator
from meta_train.estimators.base import PerturbationFn
from meta_train.estimators.base import check_std
from meta_train.estimators.persistent_es import persistent_es
from meta_train.unroll import truncation
from meta_train.unroll.perturbations import perturbation
from meta_train.unroll.problem import Problem
from meta_train.unroll.truncation import Horizon


def gpes(
    problem: Problem,
    *,
    num_particles: int,
    unroll_length: int,
    noise_period: int | None,
    horizon: Horizon,
    std: float = 0.01,
    stagger: bool = True,
    shaping: Shaping | None = None,
    draw: PerturbationFn = perturbation,
) -> Estimator:
    r"""Builds the GPES estimator with antithetic pairs.

    .. math:: \hat g = \frac{1}{2 \sigma^2 N K} \sum_{i=1}^{N} \sum_{t=1}^{K} \xi_{i,t} \, (L_{i,t}^+ - L_{i,t}^-)

    where a pair's two states live on from window to window, each under its own sign of the perturbation in use, and
    :math:`\xi_{i,t}` is the sum of the perturbations that its episode has seen up to the step. It is unbiased for the
    gradient of the mean loss per step under Gaussian smoothing of theta, whatever the period. Where the loss is about
    linear in the perturbations, the variance falls as the period grows; short periods see more of theta's surroundings.

    Args:
      problem: what to differentiate; nothing needs to be differentiable.
      num_particles: antithetic pairs N. Memory is linear in it, and independent of the horizon.
      unroll_length: window K, in inner steps; at most the shortest episode.
      noise_period: inner steps for which a perturbation is kept, a multiple of unroll_length; None keeps it for the
        whole episode.
      horizon: distribution of episode lengths.
      std: standard deviation of each perturbation, in units of theta.
      stagger: whether the pairs start at random offsets.
      shaping: an odd function of the pairs' loss differences, float[pairs] -> float[pairs], that gets those of all
        devices: `jnp.sign`, `antithetic.centered_ranks`. It keeps single pairs from outweighing the others, and biases
        the gradient: its scale is lost, and where the loss is not linear its direction follows the usual sign of a
        difference and not its mean. The parts of a window before and after an episode's end are shaped apart.
      draw: draws the perturbations, by default independent normal numbers. With another covariance, the estimate is the
        gradient times that covariance over std². `guided_es` uses it.

    Returns:
      An `Estimator`.

    Raises:
      ValueError: if num_particles, unroll_length, noise_period or std is out of range.

    Example: the gradient of the mean of (theta * step) over 8 steps is 4.5.
      >>> import jax, jax.numpy as jnp
      >>> from meta_train import Problem, truncation
      >>> problem = Problem(
      ...     init=lambda key, theta, num_steps: jnp.zeros(()),
      ...     step=lambda key, theta, state, data: (state + theta, state + theta),
      ... )
      >>> estimator = gpes(
      ...     problem, num_particles=1000, unroll_length=2, noise_period=4, horizon=truncation.constant(8))
      >>> theta, estimate = jnp.zeros(()), jax.jit(estimator.estimate)
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> gradients = []
      >>> for step in range(40):
      ...     gradient, state, info = estimate(jax.random.key(step), theta, state, estimator.data)
      ...     gradients.append(float(gradient))
      >>> abs(sum(gradients) / len(gradients) - 4.5) < 0.2
      True

    References:
      Li et al. 2023, https://arxiv.org/abs/2304.12180
    """
    truncation.check_window(horizon, unroll_length)
    check_std(std)
    if noise_period is not None and (noise_period < 1 or noise_period % unroll_length):
        raise ValueError(
            f"noise_period must be a multiple of unroll_length={unroll_length}, got {noise_period}: give whole "
            "windows, or None for the whole episode."
        )
    if noise_period is None:
        policy = noise_policy.whole_episode(std)
    elif noise_period == unroll_length:
        policy = noise_policy.every_window()
    else:
        policy = noise_policy.several_windows(std, noise_period, unroll_length)
    return persistent_es(
        problem,
        policy,
        "gpes",
        num_particles=num_particles,
        unroll_length=unroll_length,
        horizon=horizon,
        std=std,
        stagger=stagger,
        shaping=shaping,
        draw=draw,
    )
