"""Integers are equally likely over the whole range, for ranges that are known only inside a program too."""

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.tasks import broad_draws


def test_integers_are_equally_likely():
    u = (jnp.arange(3000, dtype=jnp.float32) + 0.5) / 3000
    found = jax.vmap(lambda u: broad_draws.integer(u, jnp.int32(4), jnp.int32(6)))(u)
    np.testing.assert_array_equal(np.bincount(found), [0, 0, 0, 0, 1000, 1000, 1000])


def test_log_uniform_numbers_have_a_uniform_logarithm():
    u = jnp.linspace(0.0, 1.0, 5)
    np.testing.assert_allclose(broad_draws.log_uniform(u, 1e-2, 1e2), [1e-2, 1e-1, 1, 10, 100], rtol=1e-5)
