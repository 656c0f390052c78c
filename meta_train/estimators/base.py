"""`Estimator`: what every meta-gradient estimator returns, and the averaging over particles that they share."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp


class Info(NamedTuple):
    """What an estimate returns beside the gradient."""

    loss: jax.Array  # float32[], mean loss per inner step over the particles that were kept
    dropped: jax.Array  # int32[], particles left out because their loss or gradient was not finite
    inner_steps: jax.Array  # int32[], inner steps made by all particles


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

    init: Callable[[jax.Array, Any], Any]
    estimate: Callable[..., tuple[Any, Any, Info]]
    data: Any
    num_particles: int
    name: str


def mean_over_particles(gradients: Any, losses: jax.Array, inner_steps: int, axis_name: str | None):
    """Averages particles' gradients, leaving out those with a loss or a gradient that is not finite.

    Args:
      gradients: pytree with the structure of theta and a leading axis of particles.
      losses: float32[particles], each particle's mean loss.
      inner_steps: inner steps that each particle made.
      axis_name: the mapped axis over which the particles are spread, or None.

    Returns:
      `(gradient, info, keep)` with bool[particles] keep. If no particle is kept, the gradient is zero, the loss NaN.
    """
    keep = jnp.isfinite(losses)
    for leaf in jax.tree.leaves(gradients):
        keep &= jnp.all(jnp.isfinite(leaf), axis=tuple(range(1, leaf.ndim)))

    def total(x):
        x = jnp.sum(jnp.where(jnp.expand_dims(keep, range(1, x.ndim)), x, 0), axis=0, dtype=x.dtype)
        return x if axis_name is None else jax.lax.psum(x, axis_name)

    num_kept = total(jnp.ones_like(keep, jnp.int32))
    particles = jnp.asarray(keep.shape[0], jnp.int32)
    particles = particles if axis_name is None else jax.lax.psum(particles, axis_name)
    mean = lambda x: total(x) / jnp.maximum(num_kept, 1).astype(x.dtype)
    loss = jnp.where(num_kept > 0, mean(losses), jnp.nan)
    info = Info(loss, particles - num_kept, particles * inner_steps)
    return jax.tree.map(mean, gradients), info, keep


def perturbation(key: jax.Array, theta: Any, std: float) -> Any:
    """Draws a normal perturbation with theta's structure, all of it at once: a draw for each leaf compiles slowly."""
    flat, unravel = jax.flatten_util.ravel_pytree(theta)
    return unravel(std * jax.random.normal(key, flat.shape, flat.dtype))


def check_particles(num_particles: int) -> None:
    """Raises ValueError unless there is at least one particle."""
    if num_particles < 1:
        raise ValueError(f"num_particles must be at least 1, got {num_particles}.")
