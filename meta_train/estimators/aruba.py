"""Average regret-upper-bound analysis: where tasks end, and learning rates for each coordinate.

Khodak, Balcan, Talwalkar 2019, "Adaptive Gradient-Based Meta-Learning Methods", https://arxiv.org/abs/1906.02717

Deviation: an outer step averages over several tasks, the particles, which count as one.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from meta_train.estimators import aruba_rates
from meta_train.estimators.aruba_rates import ArubaTheta
from meta_train.estimators.base import Estimator
from meta_train.estimators.base import check_particles
from meta_train.estimators.base import mean_over_particles
from meta_train.problems.unrolled import UnrolledState
from meta_train.problems.unrolled import inner_update
from meta_train.unroll import episode_data
from meta_train.unroll.capabilities import require_bilevel
from meta_train.unroll.problem import Bilevel
from meta_train.unroll.problem import Problem


def aruba(
    problem: Problem | Bilevel,
    *,
    num_steps: int,
    distance: float,
    slope: float,
    power: float = 1.0,
    num_particles: int = 1,
) -> Estimator:
    """Builds the estimator whose outer steps move the initial parameters to where tasks end, and sum up the rates.

    Theta is an `ArubaTheta`, made by `aruba_rates.begin(initial, distance=..., slope=...)`, and the outer optimizer is
    `aruba_rates.outer(optimizer)`. The "gradient" is not that of a loss: initial minus where adaptation ended, as in
    Reptile, and minus what the sums grow by.

    Args:
      problem: a `Bilevel`, or a problem that declares one; its functions get `theta.initial` as their theta, and
        `bilevel.init` must return it, or parameters of that structure.
      num_steps: inner steps of gradient descent in each task, all on the inner loss.
      distance: as given to `begin`: ε.
      slope: as given to `begin`: ζ.
      power: how fast ε and ζ are forgotten: they count 1/(t + 1)^power at the task t.
      num_particles: tasks in an outer step, whose ends and sums are averaged.

    Returns:
      An `Estimator`. `info.loss` is the outer loss where adaptation ended.

    Raises:
      ValueError: if the problem declares no `Bilevel`, or a number is out of range.

    Example: a step down w² / 2 from 1, at the rate 1/2, ends at 1/2.
      >>> from meta_train import Bilevel
      >>> loss = lambda w, initial, key, data: 0.5 * w**2
      >>> bilevel = Bilevel(loss, loss, init=lambda key, initial: initial)
      >>> estimator = aruba(bilevel, num_steps=1, distance=1.0, slope=2.0)
      >>> theta = aruba_rates.begin(jnp.ones(()), distance=1.0, slope=2.0)
      >>> state = estimator.init(jax.random.key(0), theta)
      >>> gradient, state, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
      >>> [float(x) for x in gradient]  # 1 - 1/2, -(1/8 + 1²/2), -(1² + 2²/2), -1
      [0.5, -0.625, -3.0, -1.0]

    References:
      Khodak et al. 2019, https://arxiv.org/abs/1906.02717
    """
    bilevel = require_bilevel(problem, "aruba")
    check_particles(num_particles)
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}.")
    if not (distance > 0 and slope > 0 and power >= 0):
        raise ValueError(
            f"distance and slope must be positive and power not negative, got {distance}, {slope} and {power}."
        )

    def init(key, theta):
        del key
        if not isinstance(theta, ArubaTheta):
            raise ValueError(
                f"aruba needs an ArubaTheta, got {type(theta).__name__}: make it with aruba_rates.begin(initial, ...)."
            )
        return jnp.arange(num_particles, dtype=jnp.int32)  # the particle's number, part of its random keys

    def estimate(key, theta, state, data, axis_name=None):
        tx = aruba_rates.descent(theta)

        def particle(index):
            task_key, drawn = episode_data.draw(jax.random.fold_in(key, index), bilevel.sample, data)
            init_key, inner_key, outer_key = jax.random.split(task_key, 3)
            params = bilevel.init(init_key, theta.initial)
            step = lambda inner, key: (inner_update(bilevel, tx, key, theta.initial, inner, drawn), None)
            start = UnrolledState(params, tx.init(params))
            inner, _ = jax.lax.scan(step, start, jax.random.split(inner_key, num_steps))
            loss = bilevel.outer_loss(inner.params, theta.initial, outer_key, drawn)
            return _step(theta, inner), loss

        gradients, losses = jax.vmap(particle)(state)
        gradient, info, _ = mean_over_particles(gradients, losses, num_steps, axis_name)
        return gradient, state, info

    def _step(theta: ArubaTheta, inner: Any) -> ArubaTheta:
        """What the outer step is to subtract from theta."""
        distances, slopes = aruba_rates.increment(
            theta, inner.params, inner.opt_state.squares, distance=distance, slope=slope, power=power
        )
        back = optax.tree.sub(theta.initial, inner.params)
        negative = lambda x: optax.tree.scale(-1, x)
        return ArubaTheta(back, negative(distances), negative(slopes), -jnp.ones((), theta.tasks.dtype))

    return Estimator(init, estimate, bilevel.data, num_particles, bilevel.name)
