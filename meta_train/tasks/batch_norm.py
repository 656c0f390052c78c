"""Batch normalization for small models, with the statistics of the batch at hand.

Ioffe, Szegedy 2015, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift",
https://arxiv.org/abs/1502.03167

Deviations: there are no running averages, so that a model stays a function of its parameters and a held-out batch is
normalized by its own statistics; and there is no learned scale, which the layer after a ReLU can take over. Sonnet's
default, which Andrychowicz et al. 2016 used (https://arxiv.org/abs/1606.04474), has no scale either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import haiku as hk
import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float

_EPSILON = 1e-3


def batch_norm(x: Float[Array, "batch *places channels"]) -> Float[Array, "batch *places channels"]:
    """Normalizes each channel to mean 0 and variance 1 over all examples and places, and adds a learned offset.

    A function of Haiku modules, such as `normalization` of `tasks.convnet` and `tasks.mlp`.

    Args:
      x: activations, float32.

    Example:
      >>> import haiku as hk, jax, jax.numpy as jnp
      >>> model = hk.without_apply_rng(hk.transform(batch_norm))
      >>> x = jnp.array([[1.0, 0.0], [3.0, 0.0]])
      >>> model.apply(model.init(jax.random.key(0), x), x).round(2).tolist()
      [[-1.0, 0.0], [1.0, 0.0]]
    """
    return _BatchNorm(name="batch_norm")(x)


class _BatchNorm(hk.Module):
    """Holds the offset under a name that Haiku chooses."""

    def __call__(self, x):
        axes = tuple(range(x.ndim - 1))
        mean = jnp.mean(x, axis=axes, keepdims=True)
        variance = jnp.mean(jnp.square(x - mean), axis=axes, keepdims=True)
        offset = hk.get_parameter("offset", (x.shape[-1],), x.dtype, jnp.zeros)
        return (x - mean) * jax.lax.rsqrt(variance + _EPSILON) + offset.reshape(mean.shape)
