"""Settings of every test: two CPU devices, strict dtype promotion, and compiled programs kept from run to run.

Some optax optimizers (adam among them) mix Python floats with int32 counters, which strict promotion refuses. A test
that runs one carries the marker `optax_promotion` and gets the standard rules.
"""

import os

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)


def pytest_configure(config):
    """Keeps compiled programs in pytest's cache folder, for all workers and for the processes that tests start."""
    folder = str(config.cache.mkdir("jax"))
    os.environ.update(JAX_COMPILATION_CACHE_DIR=folder, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0.2")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(autouse=True)
def dtype_promotion(request):
    rules = "standard" if request.node.get_closest_marker("optax_promotion") else "strict"
    with jax.numpy_dtype_promotion(rules):
        yield
