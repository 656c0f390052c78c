"""Input features of learned optimizers, computed for one tensor at a time."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

# Time scales, in steps, of `tanh_time` (Metz et al. 2022, arXiv 2203.11860).
TIME_SCALES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)


def momenta(grad: jax.Array, previous: Sequence[jax.Array], decays: Sequence[float]) -> tuple[jax.Array, ...]:
    """Exponential moving averages of the gradient, one per decay: `m = decay * m + (1 - decay) * grad`."""
    return tuple(decay * m + (1.0 - decay) * grad for decay, m in zip(decays, previous, strict=True))


def normalize(x: jax.Array) -> jax.Array:
    """Divides a tensor by its root mean square: `x * rsqrt(1e-5 + mean(x ** 2))`.

    Example:
      >>> import jax.numpy as jnp
      >>> bool(jnp.allclose(normalize(jnp.array([3.0, -4.0])), jnp.array([3.0, -4.0]) / 12.5**0.5))
      True
    """
    return x * jax.lax.rsqrt(1e-5 + jnp.mean(jnp.square(x)))


def tanh_time(step: jax.Array) -> jax.Array:
    """Progress on 11 time scales, `tanh(step / scale - 1)`: float32[11] from a float32 scalar."""
    return jnp.tanh(step / np.asarray(TIME_SCALES, np.float32) - 1.0)


def log_sign(grad: jax.Array, p: float = 10.0) -> tuple[jax.Array, jax.Array]:
    """Splits a gradient into magnitude and sign (Andrychowicz et al. 2016, arXiv 1606.04474, appendix A).

    `(log|g| / p, sign g)` where `|g| >= exp(-p)`, and `(-1, exp(p) * g)` elsewhere, so that neither is ever large.

    Example:
      >>> import jax.numpy as jnp
      >>> [feature.round(2).tolist() for feature in log_sign(jnp.array([1.0, -1e-9]))]
      [[0.0, -1.0], [1.0, -0.0]]
    """
    large = jnp.abs(grad) >= float(np.exp(-p))
    magnitude = jnp.where(large, jnp.abs(grad), 1.0)  # keeps log and its derivative finite where it is not used
    return (
        jnp.where(large, jnp.log(magnitude) / p, -1.0),
        jnp.where(large, jnp.sign(grad), float(np.exp(p)) * grad),
    )
