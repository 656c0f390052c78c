"""Reverse-mode differentiation of a whole training run that is run backwards instead of being stored.

Maclaurin, Duvenaud, Adams 2015, "Gradient-based Hyperparameter Optimization through Reversible Learning",
https://arxiv.org/abs/1502.03492

Deviations: each run checks that it came back to where it began. `fixed_point` has its own list.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import optax

from meta_train.estimators import fixed_point
from meta_train.estimators.base import Estimator
from meta_train.estimators.base import check_particles
from meta_train.estimators.base import mean_over_particles
from meta_train.estimators.fixed_point import Buffer
from meta_train.problems.momentum_descent import counted_loss
from meta_train.unroll import episode_data
from meta_train.unroll.capabilities import require
from meta_train.unroll.problem import Momentum
from meta_train.unroll.problem import Problem
from meta_train.unroll.truncation import Horizon


class _Run(NamedTuple):
    """A run on its way there and back, with the derivatives that it gathers on the way back."""

    params: jax.Array  # int64[size], fixed point
    velocity: jax.Array  # int64[size], fixed point
    buffer: Buffer
    losses: jax.Array  # float64[num_steps]
    healthy: jax.Array  # bool[], whether all numbers were finite and in range
    d_params: jax.Array  # float64[size]
    d_velocity: jax.Array  # float64[size]
    d_theta: Any  # like theta


def reversible(
    problem: Problem,
    *,
    num_particles: int,
    horizon: Horizon,
    objective: Callable[[jax.Array], jax.Array] = jnp.mean,
    min_decay: float = 0.5,
) -> Estimator:
    r"""Builds the estimator that differentiates SGD with momentum exactly and forgets the path.

    .. math:: v \leftarrow \gamma_t v - (1 - \gamma_t) \nabla L(w, \theta), \qquad w \leftarrow w + \alpha_t v

    (with a weight decay if the problem has one, and without the factor :math:`1 - \gamma_t` if it says so) is computed
    in fixed point, where every step can be undone to the last bit, given the digits that the product with the decay
    dropped: :math:`\log_2 (1 / \gamma)` bits a step and number, about a third more in practice. On the way
    back the derivatives with respect to learning rates, decays, initial parameters and all that theta does to the inner
    loss are gathered. They are those of the run in fixed point, with each rounding taken as the identity.

    Each outer step makes whole episodes. An inner step costs two inner gradients, an outer loss and its gradient, and a
    Hessian-vector product.

    Args:
      problem: built by `problems.momentum_descent`.
      num_particles: independent episodes, whose gradients are averaged.
      horizon: a constant number of steps.
      objective: the scalar to differentiate, from an episode's losses float[num_steps].
      min_decay: the smallest decay that may occur, which sets the size of the buffer.

    Returns:
      An `Estimator`. Memory grows with the horizon by the buffer and two numbers a step only. A particle is dropped if
      a parameter, a velocity or a change of one reaches 1024, a decay lies outside of min_decay … 1, or the run did not
      come back to where it began, bit for bit. The run is in numbers of 64 bits, 52 of them fraction, with decays in
      multiples of 2^-16; the losses see the parameters in the type that the problem's init gives them.

    Raises:
      ValueError: if the problem has no such steps, the horizon varies or is not the problem's, or an argument is out of
        range; from `init` if JAX has no 64-bit numbers because `jax_enable_x64` is off.

    Example: one step from 1 down the slope 1 with learning rate theta and decay 1/2 ends at 1 - theta / 2.
      >>> import jax, jax.numpy as jnp
      >>> from meta_train import Bilevel, problems, truncation
      >>> slope = lambda w, theta, key, data: w
      >>> bilevel = Bilevel(inner_loss=slope, outer_loss=slope, init=lambda key, theta: jnp.ones(()))
      >>> problem = problems.momentum_descent(bilevel, lambda theta, step: (theta, 0.5))
      >>> estimator = reversible(problem, num_particles=1, horizon=truncation.constant(1))
      >>> with jax.enable_x64(True):
      ...     theta = jnp.asarray(0.25)
      ...     state = estimator.init(jax.random.key(0), theta)
      ...     gradient, state, info = estimator.estimate(jax.random.key(1), theta, state, estimator.data)
      >>> float(gradient), float(info.loss)
      (-0.5, 0.875)

    References:
      Maclaurin et al. 2015, https://arxiv.org/abs/1502.03492
    """
    momentum = require(problem, "momentum", "reversible")
    bilevel = momentum.bilevel
    check_particles(num_particles)
    if horizon.low != horizon.high:
        raise ValueError(
            f"reversible makes episodes of one length, got {horizon.low} to {horizon.high} steps: give "
            "truncation.constant."
        )
    if not 0.0 < min_decay <= 1.0:
        raise ValueError(f"min_decay must lie above 0 and not above 1, got {min_decay}.")
    num_steps = horizon.high
    if momentum.num_steps not in (None, num_steps):
        raise ValueError(f"the problem is made for episodes of {momentum.num_steps} steps, got {num_steps}.")
    rows = fixed_point.rows_needed(num_steps, min_decay)

    def init(key, theta):
        del key, theta
        if jnp.result_type(float) != jnp.float64:
            raise ValueError(
                "reversible computes with integers of 64 bits, which JAX has switched off: call "
                "jax.config.update('jax_enable_x64', True) at the start of the program."
            )
        return jnp.arange(num_particles, dtype=jnp.int32)  # the particle's number, part of its random keys

    def estimate(key, theta, state, data, axis_name=None):
        def particle(index):
            run_key, drawn = episode_data.draw(jax.random.fold_in(key, index), bilevel.sample, data)
            init_key, step_key = jax.random.split(run_key)
            start, start_vjp = jax.vjp(lambda theta: bilevel.init(init_key, theta), theta)
            flat, unravel = jax.flatten_util.ravel_pytree(start)
            inner = _Inner(momentum, lambda x: unravel(x.astype(flat.dtype)), theta, step_key, drawn)
            first = _begin(flat.astype(jnp.float64), theta, num_steps, rows)
            last = _there_and_back(inner, objective, min_decay, first)
            exact = jnp.all(last.params == first.params) & jnp.all(last.velocity == 0) & jnp.all(last.buffer.low == 0)
            exact &= last.healthy & (last.buffer.count == 0)
            (through_start,) = start_vjp(unravel(last.d_params.astype(flat.dtype)))
            loss = jnp.where(exact, jnp.mean(last.losses), jnp.nan)
            return optax.tree.add(last.d_theta, through_start), loss

        gradients, losses = jax.vmap(particle)(state)
        gradient, info, _ = mean_over_particles(gradients, losses, num_steps, axis_name)
        return gradient, state, info

    return Estimator(init, estimate, problem.data, num_particles, problem.name)


class _Inner(NamedTuple):
    """What the steps of an episode share."""

    momentum: Momentum
    unravel: Callable[[jax.Array], Any]  # float64[size] -> params
    theta: Any
    key: jax.Array
    data: Any


def _begin(flat, theta, num_steps, rows):
    params, zeros, losses = fixed_point.to_fixed(flat), jnp.zeros_like(flat), jnp.zeros(num_steps, flat.dtype)
    healthy = jnp.all(jnp.abs(flat) < fixed_point.LIMIT)
    buffer, d_theta = fixed_point.empty(flat.size, rows), optax.tree.zeros_like(theta)
    return _Run(params, jnp.zeros_like(params), buffer, losses, healthy, zeros, zeros, d_theta)


def _there_and_back(inner, objective, min_decay, run):
    """Makes all steps, and undoes them.

    One loop body serves both ways, for two compilations of a gradient may round differently, and the way back would be
    lost. The barrier hides from the compiler that the outer loop has two turns, which it might else write out.
    """
    num_steps = len(run.losses)

    def way(turn, run):
        back = turn == 1
        weights = jax.grad(objective)(run.losses)  # of use on the way back only

        def step(i, run):
            time = jnp.where(back, num_steps - 1 - i, i)
            return _step(inner, min_decay, back, time, weights[time], run)

        return jax.lax.fori_loop(0, num_steps, step, run)

    return jax.lax.fori_loop(0, jax.lax.optimization_barrier(jnp.asarray(2, jnp.int32)), way, run)


def _step(inner, min_decay, back, time, weight, run):
    """Makes the step number `time`, or undoes it and adds its share to the derivatives."""
    inner_key, outer_key = jax.random.split(jax.random.fold_in(inner.key, time))
    momentum, bilevel = inner.momentum, inner.momentum.bilevel

    def gradient(flat, theta):
        """That of the inner loss, and the weight decay's."""
        slope = jax.grad(lambda x: bilevel.inner_loss(inner.unravel(x), theta, inner_key, inner.data))(flat)
        _, _, *rest = momentum.rates(theta, time)
        return slope + jnp.asarray(rest[0]).astype(flat.dtype) * flat if rest else slope

    def loss(flat, theta):
        outer = lambda flat: bilevel.outer_loss(inner.unravel(flat), theta, outer_key, inner.data).astype(flat.dtype)
        return counted_loss(momentum, time, outer, flat)

    def rates(theta):
        return tuple(jnp.asarray(x).astype(jnp.float64) for x in momentum.rates(theta, time)[:2])

    (rate, decay), rates_vjp = jax.vjp(rates, inner.theta)
    n = fixed_point.numerator(decay)
    gamma = n.astype(jnp.float64) / 2.0**fixed_point.DECAY_BITS
    move = lambda velocity: rate * fixed_point.to_float(velocity)
    before = run.params - jnp.where(back, fixed_point.to_fixed(move(run.velocity)), 0)
    flat = jax.lax.optimization_barrier(fixed_point.to_float(before))
    slope = jax.lax.optimization_barrier(gradient(flat, inner.theta))
    factor, d_factor = (1.0 - gamma, -1.0) if momentum.dampened else (1.0, 0.0)
    push = -factor * slope
    fixed_push = fixed_point.to_fixed(push)

    def forwards(run):
        velocity, buffer = fixed_point.multiply(run.velocity, run.buffer, n)
        velocity = velocity + fixed_push
        params = run.params + fixed_point.to_fixed(move(velocity))
        small = lambda x: jnp.all(jnp.abs(x) < fixed_point.LIMIT)  # false for NaN
        healthy = small(push) & small(fixed_point.to_float(velocity)) & small(flat + move(velocity))
        healthy &= run.healthy & (decay >= min_decay) & (decay <= 1.0)
        value = loss(fixed_point.to_float(params), inner.theta)
        return run._replace(params=params, velocity=velocity, buffer=buffer, healthy=healthy), value

    def backwards(run):
        d_loss, direct = jax.grad(loss, (0, 1))(fixed_point.to_float(run.params), inner.theta)
        d_params = run.d_params + weight * d_loss
        d_rate = jnp.sum(d_params * fixed_point.to_float(run.velocity))
        d_velocity = run.d_velocity + rate * d_params
        velocity, buffer = fixed_point.divide(run.velocity - fixed_push, run.buffer, n)
        d_decay = jnp.sum(d_velocity * (fixed_point.to_float(velocity) - d_factor * slope))
        _, slope_vjp = jax.vjp(gradient, flat, inner.theta)
        through_params, through_loss = slope_vjp(-factor * d_velocity)
        (through_rates,) = rates_vjp((d_rate, d_decay))
        add = lambda total, a, b, c: total + weight.astype(a.dtype) * a + b + c
        run = run._replace(
            params=before,
            velocity=velocity,
            buffer=buffer,
            d_params=d_params + through_params,
            d_velocity=gamma * d_velocity,
            d_theta=jax.tree.map(add, run.d_theta, direct, through_loss, through_rates),
        )
        return run, losses[time]

    # The rows of the buffer and the losses stay outside of the branches, which would copy them at every step.
    buffer, losses = fixed_point.fetch(run.buffer, time, back), run.losses
    light = run._replace(buffer=buffer._replace(words=None), losses=None)
    run, value = jax.lax.cond(back, backwards, forwards, light)
    buffer = fixed_point.stow(run.buffer._replace(words=buffer.words), time, ~back)
    return run._replace(buffer=buffer, losses=losses.at[time].set(value))
