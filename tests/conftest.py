"""Settings of every test: two CPU devices, strict dtype promotion, and large compiled programs kept from run to run.

Some optax optimizers (adam among them) mix Python floats with int32 counters, which strict promotion refuses. A test
that runs one carries the marker `optax_promotion` and gets the standard rules.

Compilation is most of the suite's time, so programs are compiled with few optimizations, in half of it. A test that
looks at last bits, or that computes for longer than it compiles, carries the marker `optimized`.
"""

import collections
import gc
import os

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)

# Older code generation, in one piece: compiling takes two thirds of the time. XLA refuses flags that it does not know.
_FAST_COMPILATION = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"

# With 0.2 seconds, nine in ten of the programs that were written were never read in the same run.
_KEPT_SECONDS = "1.0"

# JAX keeps every program, a megabyte each, and each one makes the next slower to lower, by five microseconds.
_MOST_PROGRAMS = 300
_COMPILATION = "/jax/core/compile/backend_compile_duration"
_events: collections.Counter[str] = collections.Counter()


def pytest_configure(config):
    """Keeps compiled programs in pytest's cache folder, for all workers and for the processes that tests start."""
    folder = str(config.cache.mkdir("jax"))
    os.environ.update(JAX_COMPILATION_CACHE_DIR=folder, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=_KEPT_SECONDS)
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", float(_KEPT_SECONDS))
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    jax.config.update("jax_disable_most_optimizations", True)
    if jax.__version_info__ < (0, 11):
        os.environ["XLA_FLAGS"] = f"{_FAST_COMPILATION} {os.environ.get('XLA_FLAGS', '')}"
    jax.monitoring.register_event_duration_secs_listener(lambda event, *args, **kwargs: _events.update([event]))


def pytest_collection_finish():
    """The garbage collector skips what is there before the first test: modules, tests, JAX."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True, scope="module")
def programs():
    """JAX forgets its programs between two files, once there are many."""
    yield
    if _events[_COMPILATION] > _MOST_PROGRAMS:
        _events.clear()
        jax.clear_caches()


@pytest.fixture(autouse=True)
def dtype_promotion(request):
    rules = "standard" if request.node.get_closest_marker("optax_promotion") else "strict"
    with jax.numpy_dtype_promotion(rules):
        yield


@pytest.fixture(autouse=True)
def optimizations(request):
    """A program that was compiled before, by another test, stays as it is."""
    wanted = request.node.get_closest_marker("optimized") is not None
    jax.config.update("jax_disable_most_optimizations", not wanted)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
