"""Antithetic pairs: theta plus and minus a perturbation, and the weights that their loss differences give."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Protocol

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float


class Shaping(Protocol):
    """Shapes the loss differences of all antithetic pairs, such as `jnp.sign` or `centered_ranks`."""

    def __call__(self, differences: jax.Array, /) -> jax.Array:
        """Shapes the differences.

        Args:
          differences: float[pairs], L⁺ − L⁻ of all pairs on all devices.

        Returns:
          float[pairs], an odd function of the differences.
        """
        ...


def pair(theta: Any, noise: Any) -> Any:
    """The two values of theta, leaves [2, …]: with the noise added, and with it taken away."""
    return jax.tree.map(lambda t, e: jnp.stack([t + e, t - e]), theta, noise)


def shape(
    shaping: Shaping | None, slopes: Float[Array, " pairs"], std: float, axis_name: str | None
) -> Float[Array, " pairs"]:
    """Applies a shaping of loss differences to the slopes of the pairs, together with those of other shards.

    Args:
      shaping: an odd function of the differences L⁺ − L⁻ of all pairs, float[all pairs] -> float[all pairs]; or None.
      slopes: differences over 2 std².
      std: standard deviation of the perturbations.
      axis_name: the mapped axis over which the pairs are spread, or None.

    Returns:
      The shaped slopes.
    """
    if shaping is None:
        return slopes
    differences = slopes * (2 * std**2)
    if axis_name is None:
        return shaping(differences) / (2 * std**2)
    shaped = shaping(jax.lax.all_gather(differences, axis_name, tiled=True)) / (2 * std**2)
    first = jax.lax.axis_index(axis_name) * len(slopes)
    return jax.lax.dynamic_slice_in_dim(shaped, first, len(slopes))


def weigh(noise: Any, weights: Float[Array, " pairs"]) -> Any:
    """Multiplies each pair's perturbation, leaves [pairs, …], by its weight."""
    return jax.vmap(lambda e, w: jax.tree.map(lambda leaf: leaf * w.astype(leaf.dtype), e))(noise, weights)


def centered_ranks(differences: Float[Array, " pairs"]) -> Float[Array, " pairs"]:
    """Ranks of loss differences, for an estimator's `shaping`: only their order counts, and no pair outweighs others.

    The 2 N numbers ±d are ranked, and the ranks centered and scaled to −1 … 1: the largest difference gives 1 or −1 by
    its sign, the smallest ±1 / (2 N − 1). A difference of 0 gives 0.

    Args:
      differences: those of all N pairs.

    Example:
      >>> import jax.numpy as jnp
      >>> print(centered_ranks(jnp.array([-20.0, 0.1, 3.0])))
      [-1.   0.2  0.6]

    References:
      Wierstra et al. 2014, "Natural Evolution Strategies" (fitness shaping), https://jmlr.org/papers/v15/wierstra14a.html
    """
    ranks = jnp.argsort(jnp.argsort(jnp.abs(differences))).astype(differences.dtype)
    return jnp.sign(differences) * (2 * ranks + 1) / (2 * len(differences) - 1)
