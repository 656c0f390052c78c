"""Devices: which of them a run uses, and how its data get there."""

from collections.abc import Sequence
import math
from typing import Any

import jax

from meta_train.estimators.base import Estimator


def choose_devices(estimators: Sequence[Estimator], devices: Sequence[Any] | None) -> Sequence[Any]:
    """Returns the given devices, or as many of `jax.devices()` as divide the particles of each estimator evenly.

    Raises:
      ValueError: if the particles do not divide evenly among the given devices, or if a process of a distributed run
        would get none of them.
    """
    counts = [estimator.num_particles for estimator in estimators]
    if devices is None:
        chosen = jax.devices()[: math.gcd(len(jax.devices()), *counts)]
        if len({device.process_index for device in chosen}) < jax.process_count():
            raise ValueError(
                f"particles must divide evenly among the processes, got num_particles {counts} for "
                f"{jax.process_count()} processes with {len(jax.devices())} devices in all: choose multiples of "
                f"{len(jax.devices())}, or start fewer processes."
            )
        return chosen
    if not devices:
        raise ValueError("devices must name at least one device, got none. None takes those that JAX has.")
    if any(count % len(devices) for count in counts):
        raise ValueError(
            f"particles must divide evenly among the devices, got num_particles {counts} on {len(devices)} devices: "
            f"choose multiples of {len(devices)}, or give fewer devices."
        )
    return devices


def put_once(data: Any, sharding: jax.sharding.Sharding) -> Any:
    """Moves arrays to the devices. An array that several tasks share is moved once."""
    by_identity = {id(leaf): leaf for leaf in jax.tree.leaves(data)}
    placed = {identity: jax.device_put(leaf, sharding) for identity, leaf in by_identity.items()}
    return jax.tree.map(lambda leaf: placed[id(leaf)], data)
