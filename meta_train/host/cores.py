"""CPU cores as JAX devices: how many there are, and how many JAX uses."""

import os

import jax

_VARIABLE = "JAX_NUM_CPU_DEVICES"
_XLA_FLAG = "xla_force_host_platform_device_count"


def count() -> int:
    """Cores that this process may run on.

    Example:
      >>> count() >= 1
      True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_all_cores() -> None:
    """Makes every CPU core a JAX device of its own, so that particles spread over them. Call it before any JAX work.

    Does nothing if the number of CPU devices has already been chosen, by `jax_num_cpu_devices`, by the environment
    variable JAX_NUM_CPU_DEVICES, or by `--xla_force_host_platform_device_count` in XLA_FLAGS. Two one-core devices make
    more inner steps a second than one device with two cores: see `benchmarks/scaling.py`.

    Raises:
      RuntimeError: if JAX has been used already.
    """
    chosen: int = jax.config.jax_num_cpu_devices  # pyright: ignore[reportAttributeAccessIssue]  # jax defines it at run time
    if chosen < 1 and not _chosen_in_xla_flags():  # the former reflects the variable as well
        jax.config.update("jax_num_cpu_devices", count())


def shared_environment(num_processes: int) -> dict[str, str]:
    """The environment for each of several processes that share the cores; keeps a number of devices that is set."""
    if int(os.environ.get(_VARIABLE, 0)) > 0 or _chosen_in_xla_flags():
        return dict(os.environ)
    return {**os.environ, _VARIABLE: str(max(1, count() // num_processes))}


def _chosen_in_xla_flags():
    return _XLA_FLAG in os.environ.get("XLA_FLAGS", "")
