"""`Estimator`: what every meta-gradient estimator returns, and the averaging over particles that they share."""

import math
from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import jax.numpy as jnp


class Info(NamedTuple):
    """What an estimate returns besides the gradient."""

    loss: jax.Array  # float32[], mean loss per inner step over the particles that were kept
    dropped: jax.Array  # int32[], particles left out because their loss or gradient was not finite
    inner_steps: jax.Array  # int32[], inner steps made by all particles
    # float32[], trace of the covariance of the gradient, from the spread of the kept particles; NaN below two of them
    gradient_variance: jax.Array | float = math.nan
    # float32[], squared norm of the gradient over that trace: about 1 if the gradient is pure noise
    snr: jax.Array | float = math.nan
    # float32[steps], mean loss of the kept particles by inner step of the window, or of the episode if an estimate runs
    # whole episodes (NaN at steps that none of them made); () if the estimator does not report it
    step_losses: Any = ()
    # like the gradient, at least float32: variance of each of its coordinates, from the spread of the kept particles
    # (NaN below two of them); () if the estimator does not report it
    coordinate_variances: Any = ()


class EstimatorInitFn(Protocol):
    """Makes the state of the particles before the first outer step."""

    def __call__(self, key: jax.Array, theta: Any, /) -> Any:
        """Makes the state.

        Args:
          key: random key.
          theta: meta-parameters.

        Returns:
          The state, a pytree of arrays, each with the leading axis `num_particles`. An estimator made of others may
          have leaves with a multiple of it.
        """
        ...


class EstimateFn(Protocol):
    """Estimates the gradient for one outer step."""

    def __call__(
        self, key: jax.Array, theta: Any, state: Any, data: Any, /, axis_name: str | None = None
    ) -> tuple[Any, Any, Info]:
        """Estimates the gradient.

        Args:
          key: random key of the outer step, the same for all shards of the particles.
          theta: meta-parameters.
          state: what `init` or the estimate before returned, or a shard of it along the particles.
          data: `Estimator.data`.
          axis_name: the mapped axis that the shards lie on; None if state holds all particles.

        Returns:
          `(gradient, state, info)`. The gradient has the structure of theta and, like info, is the mean over the
          particles of all shards; None from an estimator of losses only, such as `episode_losses`.
        """
        ...


class Estimator(NamedTuple):
    """A stateful estimator of the gradient of a problem's mean loss per inner step with respect to theta.

    Fields:
      init: `(key, theta) -> state`. Every leaf of state has the leading axis `num_particles`.
      estimate: `(key, theta, state, data, axis_name=None) -> (gradient, state, info)`. The gradient has the structure
        of theta; `info` is an `Info`. When state is a shard of the particles, `axis_name` is the mapped axis that the
        shards lie on, and gradient and info are those of all of them. A particle whose loss is not finite is left out
        of the mean and begins a new episode.
      data: the problem's arrays; pass them to `estimate`.
      num_particles: how many workers, or antithetic pairs of them.
      name: the problem's name.
    """

    init: EstimatorInitFn
    estimate: EstimateFn
    data: Any
    num_particles: int
    name: str


def mean_over_particles(
    gradients: Any,
    losses: jax.Array,
    inner_steps: int | jax.Array,
    axis_name: str | None,
    step_losses: jax.Array | None = None,
):
    """Averages particles' gradients, leaving out those with a loss or a gradient that is not finite.

    Args:
      gradients: pytree with the structure of theta and a leading axis of particles.
      losses: float32[particles], each particle's mean loss.
      inner_steps: inner steps that each particle made; an int, or int32[particles] if they differ.
      axis_name: the mapped axis over which the particles are spread, or None.
      step_losses: float32[particles, steps], each particle's loss by inner step, NaN where it made no such step.

    Returns:
      `(gradient, info, keep)` with bool[particles] keep. If no particle is kept, the gradient is zero, the loss NaN.
    """
    keep = jnp.isfinite(losses)
    for leaf in jax.tree.leaves(gradients):
        keep &= jnp.all(jnp.isfinite(leaf), axis=tuple(range(1, leaf.ndim)))

    def add(x):
        return x if axis_name is None else jax.lax.psum(x, axis_name)

    def total(x, keep=keep):
        return add(jnp.sum(jnp.where(jnp.expand_dims(keep, range(keep.ndim, x.ndim)), x, 0), axis=0, dtype=x.dtype))

    num_kept = total(jnp.ones_like(keep, jnp.int32))
    particles = add(jnp.asarray(keep.shape[0], jnp.int32))
    mean = lambda x: total(x) / jnp.maximum(num_kept, 1).astype(x.dtype)
    loss = jnp.where(num_kept > 0, mean(losses), jnp.nan)
    gradient = jax.tree.map(mean, gradients)
    variance, snr = _noise(gradients, gradient, total, num_kept)
    info = Info(
        loss,
        particles - num_kept,
        add(jnp.sum(jnp.broadcast_to(inner_steps, keep.shape), dtype=jnp.int32)),
        variance,
        snr,
        () if step_losses is None else _by_step(step_losses, keep, total),
        jax.tree.map(lambda x, mean: _variance(x, mean, total, num_kept), gradients, gradient),
    )
    return gradient, info, keep


def _noise(gradients, gradient, total, num_kept):
    """The trace of the mean gradient's covariance, and the gradient's squared norm over it."""
    leaves, means = jax.tree.leaves(gradients), jax.tree.leaves(gradient)
    square = lambda x: jnp.square(x.astype(jnp.float32))
    deviations = sum(
        total(jnp.sum(square(x - mean), axis=range(1, x.ndim))) for x, mean in zip(leaves, means, strict=True)
    )
    count = num_kept.astype(jnp.float32)
    trace = jnp.where(num_kept > 1, deviations / (count * jnp.maximum(count - 1.0, 1.0)), jnp.nan)
    return trace, sum(jnp.sum(square(mean)) for mean in means) / trace


def _variance(x, mean, total, num_kept):
    """The variance of the mean of particles' gradients x, for each coordinate; unused, it costs no arithmetic."""
    dtype = x.dtype if jnp.finfo(x.dtype).bits > 32 else jnp.float32
    count = num_kept.astype(dtype)
    squares = total(jnp.square(x.astype(dtype) - mean.astype(dtype)))
    return jnp.where(num_kept > 1, squares / (count * jnp.maximum(count - 1, 1)), jnp.nan)


def _by_step(step_losses, keep, total):
    """Mean over the kept particles of those that made the step."""
    made = keep[:, None] & ~jnp.isnan(step_losses)
    return total(step_losses, made) / total(jnp.ones_like(step_losses), made)


class PerturbationFn(Protocol):
    """Draws a perturbation of theta, such as `perturbation`."""

    def __call__(self, key: jax.Array, theta: Any, std: float, /) -> Any:
        """Draws it.

        Args:
          key: random key.
          theta: meta-parameters, for structure and shapes.
          std: standard deviation, in units of theta.

        Returns:
          The perturbation, with the structure of theta, of mean zero.
        """
        ...


def check_particles(num_particles: int) -> None:
    """Raises ValueError unless there is at least one particle."""
    if num_particles < 1:
        raise ValueError(f"num_particles must be at least 1, got {num_particles}.")


def check_std(std: float) -> None:
    """Raises ValueError unless the standard deviation is positive."""
    if not std > 0:
        raise ValueError(f"std must be positive, got {std}.")
