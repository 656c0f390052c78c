"""Evolution strategies over whole episodes: unbiased, without backpropagation, and one estimate an episode.

Salimans et al. 2017, "Evolution Strategies as a Scalable Alternative to Reinforcement Learning",
https://arxiv.org/abs/1703.03864; antithetic pairs as in Nesterov and Spokoiny 2017, "Random Gradient-Free Minimization
of Convex Functions", https://doi.org/10.1007/s10208-015-9296-2. VeLO was trained so, with `shaping=jnp.sign` and the
loss at the end (`objectives.last`): Metz et al. 2022, https://arxiv.org/abs/2211.09760
"""

import jax
import jax.numpy as jnp

from meta_train.estimators import antithetic
from meta_train.estimators.antithetic import Shaping
from meta_train.estimators.base import Estimator
from meta_train.estimators.base import PerturbationFn
from meta_train.estimators.base import check_particles
from meta_train.estimators.base import check_std
from meta_train.estimators.base import mean_over_particles
from meta_train.unroll import episodes
from meta_train.unroll.capabilities import require_steps
from meta_train.unroll.perturbations import perturbation
from meta_train.unroll.problem import Problem
from meta_train.unroll.truncation import Horizon


def full_es(
    problem: Problem,
    *,
    num_particles: int,
    horizon: Horizon,
    std: float = 0.01,
    shaping: Shaping | None = None,
    draw: PerturbationFn = perturbation,
) -> Estimator:
    r"""Builds the estimator that runs every episode whole, under antithetic perturbations.

    .. math:: \hat g = \frac{1}{2 \sigma^2 N} \sum_{i=1}^{N} \epsilon_i
        \Bigl(\frac{1}{T_i} \sum_{t=1}^{T_i} L_{i,t}^+ - \frac{1}{T_i} \sum_{t=1}^{T_i} L_{i,t}^-\Bigr)

    It is unbiased for the gradient of the mean over episodes of the mean loss per step, under Gaussian smoothing of
    theta. Every episode counts alike; with windows every inner step does, so that long episodes count more.

    Args:
      problem: what to differentiate; nothing needs to be differentiable.
      num_particles: antithetic pairs N. Each takes the memory of two inner states, and of two numbers for each step of
        the longest episode, its losses.
      horizon: distribution of episode lengths T. An outer step takes as long as the longest that it draws.
      std: standard deviation of the perturbations, in units of theta.
      shaping: an odd function of the pairs' loss differences; it biases the gradient. See `gpes`.
      draw: draws the perturbations, by default independent normal numbers. With another covariance, the estimate is the
        gradient times that covariance over std². `guided_es` uses it.

    Returns:
      An `Estimator`.

    Raises:
      ValueError: if num_particles or std is out of range.

    Example: the gradient of the mean of (theta * step) over 4 steps is 2.5.
      >>> import jax, jax.numpy as jnp
      >>> from meta_train import Problem, truncation
      >>> problem = Problem(
      ...     init=lambda key, theta, num_steps: jnp.zeros(()),
      ...     step=lambda key, theta, state, data: (state + theta, state + theta),
      ... )
      >>> estimator = full_es(problem, num_particles=40_000, horizon=truncation.constant(4))
      >>> theta = jnp.zeros(())
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> gradient, state, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
      >>> bool(abs(gradient - 2.5) < 0.1)
      True

    References:
      Salimans et al. 2017, https://arxiv.org/abs/1703.03864; Metz et al. 2022, https://arxiv.org/abs/2211.09760
    """
    require_steps(problem, "full_es")
    check_particles(num_particles)
    check_std(std)

    def run(key, theta, state, data):
        """A pair's episode: mean losses [2], losses by step [horizon.high], perturbation and length."""
        num_steps, episode_key, noise_key = episodes.begin(key, state, horizon)
        noise = draw(noise_key, theta, std)
        means, losses = jax.vmap(
            lambda theta: episodes.mean_loss(problem, episode_key, theta, num_steps, horizon.high, data)
        )(antithetic.pair(theta, noise))
        return means, jnp.mean(losses, axis=0), noise, num_steps

    def estimate(key, theta, state, data, axis_name=None):
        means, losses, noise, lengths = jax.vmap(lambda s: run(key, theta, s, data))(state)
        slopes = (means[:, 0] - means[:, 1]) / (2 * std**2)
        gradients = antithetic.weigh(noise, antithetic.shape(shaping, slopes, std, axis_name))
        gradient, info, _ = mean_over_particles(gradients, jnp.mean(means, axis=1), 2 * lengths, axis_name, losses)
        return gradient, episodes.following(state), info

    init = lambda key, theta: episodes.start(horizon, num_particles)
    return Estimator(init, estimate, problem.data, num_particles, problem.name)
