"""Settings of every test: two CPU devices, and strict dtype promotion.

Some optax optimizers (adam among them) mix Python floats with int32 counters, which strict promotion refuses. A test
that runs one carries the marker `optax_promotion` and gets the standard rules.
"""

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)


@pytest.fixture(autouse=True)
def dtype_promotion(request):
    rules = "standard" if request.node.get_closest_marker("optax_promotion") else "strict"
    with jax.numpy_dtype_promotion(rules):
        yield
