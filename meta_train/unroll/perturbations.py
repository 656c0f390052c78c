"""Random perturbations of meta-parameters, and meta-parameters as one vector."""

from collections.abc import Callable
from typing import Any

import jax
import jax.flatten_util


def perturbation(key: jax.Array, theta: Any, std: float) -> Any:
    """Draws a normal perturbation with theta's structure, all of it at once: a draw for each leaf compiles slowly.

    Args:
      key: random key.
      theta: meta-parameters, one array at least. Leaves may have several dtypes.
      std: standard deviation, in units of theta.

    Raises:
      ValueError: if theta holds no array.

    Example:
      >>> import jax.numpy as jnp
      >>> drawn = perturbation(jax.random.key(0), {"a": jnp.zeros(2), "b": jnp.zeros((), jnp.bfloat16)}, 0.1)
      >>> drawn["a"].shape, drawn["b"].dtype.name
      ((2,), 'bfloat16')
    """
    check(theta)
    flat, unravel = ravel(theta)
    return unravel(std * jax.random.normal(key, flat.shape, flat.dtype))


def check(theta: Any) -> None:
    """Raises ValueError if theta holds no array."""
    if not jax.tree.leaves(theta):
        raise ValueError("theta holds no array, so there is nothing to perturb: use an optimizer that has weights.")


def ravel(tree: Any) -> tuple[jax.Array, Callable[[jax.Array], Any]]:
    """`jax.flatten_util.ravel_pytree`, also for leaves of several dtypes where promotion of dtypes is strict.

    Args:
      tree: arrays.

    Returns:
      All numbers end to end, of the dtype that the leaves' dtypes are promoted to, and the function that makes such a
      vector a tree again, with the leaves' own dtypes.

    Example:
      >>> import jax.numpy as jnp
      >>> flat, unravel = ravel({"a": jnp.ones(2, jnp.bfloat16), "b": jnp.zeros((), jnp.float32)})
      >>> flat.tolist(), unravel(flat)["a"].dtype.name
      ([1.0, 1.0, 0.0], 'bfloat16')
    """
    with jax.numpy_dtype_promotion("standard"):
        return jax.flatten_util.ravel_pytree(tree)
