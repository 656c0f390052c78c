"""The distance of gradients, against the formula in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.problems import gradient_distance


def test_it_sums_over_output_units_of_all_weights():
    random = np.random.default_rng(0)
    first, second = (
        {"conv": {"w": random.normal(size=(3, 3, 2, 4))}, "head": {"w": random.normal(size=(5, 3)), "b": np.ones(3)}}
        for _ in range(2)
    )
    expected = 0.0
    for name, units in (("conv", 4), ("head", 3)):
        for i in range(units):
            a, b = first[name]["w"][..., i].ravel(), second[name]["w"][..., i].ravel()
            expected += 1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-6)
    with jax.enable_x64(True):
        found = gradient_distance(jax.tree.map(jnp.asarray, first), jax.tree.map(jnp.asarray, second))
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_unit_without_gradient_is_as_far_as_a_right_angle_and_has_a_finite_derivative():
    first, second = jnp.ones((2, 1)), jnp.zeros((2, 1))
    distance, derivative = jax.value_and_grad(lambda x: gradient_distance({"w": first}, {"w": x}))(second)
    assert distance == 1
    assert np.isfinite(derivative).all()


def test_it_needs_weights():
    with pytest.raises(ValueError, match="at least two dimensions"):
        gradient_distance({"b": jnp.ones(2)}, {"b": jnp.ones(2)})
