"""Meshes with explicit axes: found, and made automatic inside a function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_optim import explicit_axes


def _placed(kind):
    mesh = jax.make_mesh((2,), ("x",), axis_types=(kind,))
    return jax.device_put(jnp.arange(8.0).reshape(4, 2), jax.NamedSharding(mesh, jax.P("x", None))), mesh


def test_only_explicit_axes_are_found():
    explicit, mesh = _placed(jax.sharding.AxisType.Explicit)
    automatic, _ = _placed(jax.sharding.AxisType.Auto)
    assert explicit_axes.mesh_of({"a": jnp.ones(2), "b": explicit}) == mesh
    assert explicit_axes.mesh_of({"a": jnp.ones(2), "b": automatic}) is None
    assert explicit_axes.mesh_of({}) is None


def test_shardings_are_those_of_the_arrays():
    array, mesh = _placed(jax.sharding.AxisType.Explicit)
    shardings = explicit_axes.like({"a": array, "b": jnp.ones(3)}, mesh)
    assert shardings["a"].spec == jax.P("x", None) and shardings["b"].spec == jax.P(None)


def test_an_ambiguous_operation_is_allowed_inside():
    array, mesh = _placed(jax.sharding.AxisType.Explicit)
    gram = lambda x: x.T @ x  # both factors are sharded along the dimension that is summed
    with pytest.raises(Exception, match="sharding"):
        jax.jit(gram)(array)
    made = explicit_axes.automatic(gram, mesh, jax.NamedSharding(mesh, jax.P()))(array)
    np.testing.assert_allclose(made, np.asarray(array).T @ np.asarray(array))
