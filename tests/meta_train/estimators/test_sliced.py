"""Slices of what particles have in common: they add up to the whole, on one device and over shards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.estimators import sliced


@pytest.mark.parametrize("size", [1, 3, 4, 5, 8])
def test_what_was_cut_can_be_joined(size):
    whole = np.arange(1, 2 * size + 1).reshape(2, size)
    slices = sliced.cut(whole, 4)
    assert slices.shape == (4, 2, -(-size // 4))
    np.testing.assert_array_equal(sliced.join(slices, size, None), whole)
    np.testing.assert_array_equal(sliced.cut_like(whole, slices, None), slices)


def test_each_shard_keeps_the_slices_of_its_particles():
    """Two devices with two particles each; the array is changed on both and cut again."""
    whole = jnp.arange(10.0).reshape(2, 5)

    def change(slices):
        joined = sliced.join(slices, 5, "shards")
        return joined, sliced.cut_like(3 * joined, slices, "shards")

    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:2]), ("shards",))
    specs = jax.P("shards")
    run = jax.shard_map(change, mesh=mesh, in_specs=specs, out_specs=(jax.P(), specs), check_vma=False)
    joined, slices = jax.jit(run)(sliced.cut(whole, 4))
    np.testing.assert_array_equal(joined, whole)
    np.testing.assert_array_equal(slices, sliced.cut(3 * whole, 4))
