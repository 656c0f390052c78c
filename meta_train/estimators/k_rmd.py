"""Backpropagation through the last steps of whole episodes, for objectives that lie at an episode's end.

Shaban, Cheng, Hatch, Boots 2019, "Truncated Back-propagation for Bilevel Optimization",
https://arxiv.org/abs/1810.10667
"""

import functools

import jax
import jax.numpy as jnp

from meta_train.estimators.base import Estimator
from meta_train.estimators.base import check_particles
from meta_train.estimators.base import mean_over_particles
from meta_train.unroll import episodes
from meta_train.unroll.capabilities import require_steps
from meta_train.unroll.problem import Problem
from meta_train.unroll.truncation import Horizon


def k_rmd(
    problem: Problem,
    *,
    num_particles: int,
    horizon: Horizon,
    num_backward: int,
    decay: float = 1.0,
    max_norm: float | None = None,
) -> Estimator:
    r"""Builds the estimator: reverse mode through the last K steps of each episode.

    .. math:: \hat g = \frac{1}{N} \sum_{i=1}^{N} \mathrm{clip} \Big( \frac{1}{T_i} \sum_{t > T_i - K}
      \frac{d}{d\theta} L_{i,t}(s_{T_i - K}, \theta) \Big)

    The state K steps before the end counts as a constant. The paper proves that a small K is enough where the inner
    training converges. Combine it with an objective at the end, such as `objectives.log_final`: losses before the last
    K steps have no derivative. The episodes are run without derivatives up to there, so that long ones are cheap, and
    each only as far as the longest one of the estimate.

    Two limits, which are not in the paper, keep chaotic trainings from hiding what the others have in common. Both
    trade bias for noise.

    Args:
      problem: a problem whose step is differentiable in theta.
      num_particles: independent episodes N, whose gradients are averaged.
      horizon: distribution of episode lengths T.
      num_backward: K. Memory is that of about 2 √K states. Shorter episodes are differentiated as a whole.
      decay: the derivative with respect to the state is multiplied by it at each step on the way back. Below the
        rate at which it grows through a step, it does not explode.
      max_norm: the gradient of each episode is scaled down to this global norm, before the mean. None: never. A norm
        below all that occur gives each episode the same say.

    Returns:
      An `Estimator`.

    Raises:
      ValueError: if a number is out of range.

    Example: three steps of s + θ from 0, of which the last loss counts, θ for each step on the way back.
      >>> import jax, jax.numpy as jnp
      >>> from meta_train import Problem, objectives, truncation
      >>> problem = Problem(
      ...     init=lambda key, theta, num_steps: jnp.zeros(()),
      ...     step=lambda key, theta, state, data: (state + theta, state + theta),
      ... )
      >>> estimator = k_rmd(
      ...     objectives.last(problem), num_particles=1, horizon=truncation.constant(3), num_backward=2
      ... )
      >>> theta = jnp.zeros(())
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> gradient, state, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
      >>> float(gradient)
      2.0

    References:
      Shaban et al. 2019, https://arxiv.org/abs/1810.10667
    """
    require_steps(problem, "k_rmd")
    check_particles(num_particles)
    if num_backward < 1:
        raise ValueError(f"num_backward is a number of steps, at least 1, got {num_backward}.")
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"decay must be between 0 and 1, got {decay}.")
    if max_norm is not None and not max_norm > 0:
        raise ValueError(f"max_norm must be positive, or None for no limit, got {max_norm}.")

    def mean_loss(theta, key, num_steps, data):
        """The mean loss of an episode, and float[horizon.high] losses, NaN from num_steps on."""
        init_key, step_key = episodes.split(key)
        first = problem.init(init_key, theta, num_steps)
        start = jnp.maximum(num_steps - num_backward, 0)
        constants = jax.lax.stop_gradient((theta, first))
        later, before, losses = episodes.run(problem, step_key, *constants, start, horizon.high, data)
        state = jax.tree.map(lambda first, later: jnp.where(start == 0, first, later), first, later)
        step = lambda time, state: problem.step(step_key(time), theta, _faded(state, decay), data)
        total, times, last = episodes.run_differentiably(step, state, start, num_steps, num_backward)
        return (before + total) / num_steps.astype(total.dtype), losses.at[times].set(last, mode="drop")

    def estimate(key, theta, state, data, axis_name=None):
        def particle(state):
            num_steps, episode_key, _ = episodes.begin(key, state, horizon)
            (mean, losses), gradient = jax.value_and_grad(mean_loss, has_aux=True)(theta, episode_key, num_steps, data)
            if max_norm is not None:
                gradient = _limited(gradient, max_norm)
            return gradient, mean, losses, num_steps

        gradients, means, losses, lengths = jax.vmap(particle)(state)
        gradient, info, _ = mean_over_particles(gradients, means, lengths, axis_name, losses)
        return gradient, episodes.following(state), info

    init = lambda key, theta: episodes.start(horizon, num_particles)
    return Estimator(init, estimate, problem.data, num_particles, problem.name)


def _faded(state, decay):
    """The state itself, whose derivative is multiplied by decay."""
    if decay == 1.0:
        return state
    return jax.tree.map(lambda x: _fade(x, decay) if jnp.issubdtype(x.dtype, jnp.floating) else x, state)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _fade(x, decay):
    del decay
    return x


@_fade.defjvp
def _(decay, primals, tangents):
    return primals[0], decay * tangents[0]


def _limited(gradient, max_norm):
    """Scales a gradient down to a norm. It is divided by its largest entry first, as its squares might overflow."""
    leaves, single = jax.tree.leaves(gradient), jnp.float32
    entries = [jnp.max(jnp.abs(x), initial=0).astype(single) for x in leaves]
    largest = functools.reduce(jnp.maximum, entries, jnp.finfo(single).tiny)
    squares = [jnp.sum(jnp.square(x.astype(single) / largest)) for x in leaves]
    norm = jnp.sqrt(functools.reduce(jnp.add, squares, jnp.zeros((), single)))
    factor = max_norm / norm
    scaled = lambda x: x / largest.astype(x.dtype) * factor.astype(x.dtype)
    return jax.tree.map(lambda x: jnp.where(factor < largest, scaled(x), x), gradient)
