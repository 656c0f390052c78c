"""Particles that run a window together: all of them on accelerators, as many as fit a core's cache on CPUs.

Every operation of an unrolled step goes through the state of all particles. Once these states are larger than a core's
second-level cache, each operation reads and writes slower memory. Groups that fit the cache run their windows one after
the other. Too small a group costs time as well, because each operation has a fixed cost.
"""

from collections.abc import Callable
from typing import Any

import jax

CACHE_BYTES = 2_500_000  # of the states of a group; second-level caches of today's server cores have 1 to 2 MB


def size(num_particles: int, state_bytes: int) -> int:
    """How many particles a group has on a CPU: the largest divisor of their number whose states fit `CACHE_BYTES`.

    Args:
      num_particles: number of particles on the device.
      state_bytes: bytes of the states of all of them.

    Returns:
      A divisor of num_particles, at least 1.

    Example:
      >>> size(64, 8_000_000), size(64, 1_000_000), size(3, 300_000_000)
      (16, 64, 1)
    """
    divisors = (count for count in range(1, num_particles + 1) if num_particles % count == 0)
    return max((count for count in divisors if count * state_bytes <= CACHE_BYTES * num_particles), default=1)


def vmap(function: Callable[[Any], Any], state: Any) -> Any:
    """Computes `jax.vmap(function)(state)`, on CPUs group by group.

    Args:
      function: maps a particle's state to a pytree of arrays.
      state: pytree of arrays with a leading axis of particles.

    Returns:
      What `function` returns, with a leading axis of particles. Groups change the last digits at most.

    Example:
      >>> import jax.numpy as jnp
      >>> print(vmap(lambda x: 2 * x, jnp.arange(3)))
      [0 2 4]
    """
    leaves = jax.tree.leaves(state)
    count = leaves[0].shape[0]
    group = size(count, sum(x.size * x.dtype.itemsize for x in leaves)) if jax.default_backend() == "cpu" else count
    if group == count:
        return jax.vmap(function)(state)
    grouped = jax.tree.map(lambda x: x.reshape(count // group, group, *x.shape[1:]), state)
    made = jax.lax.map(jax.vmap(function), grouped)
    return jax.tree.map(lambda x: x.reshape(count, *x.shape[2:]), made)
