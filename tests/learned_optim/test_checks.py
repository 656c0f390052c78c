"""Checks of user input: what passes, and the error that anything else raises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_optim import checks


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_whole_numbers(value):
    assert checks.whole_number("size", value, 3) == 3 and type(checks.whole_number("size", value, 3)) is int


@pytest.mark.parametrize("value", [3.0, "3", None, True, [3]])
def test_other_things_are_no_whole_numbers(value):
    with pytest.raises(TypeError, match=r"size must be a whole number, at least 1, got .* Hint"):
        checks.whole_number("size", value, 1, "Hint")


def test_a_whole_number_below_the_minimum_is_an_error():
    with pytest.raises(ValueError, match=r"size must be at least 1, got 0\.$"):
        checks.whole_number("size", 0, 1)


@pytest.mark.parametrize("value", [10**400, float("inf"), float("nan"), "1"])
def test_real_numbers_are_finite(value):
    with pytest.raises(ValueError, match="rate must be a finite number"):
        checks.real_number("rate", value)
    with pytest.raises(TypeError, match="rate must be a number"):
        checks.real_number("rate", [1.0, 2.0])
    assert checks.real_number("rate", np.float32(0.5)) == 0.5


@pytest.mark.parametrize("value", [(), (0,), (2.5,), 4, None, "3"])
def test_sizes_are_positive_whole_numbers(value):
    with pytest.raises(ValueError, match="hidden_sizes must be a non-empty sequence"):
        checks.sizes(value)
    assert checks.sizes([np.int64(4), 2]) == (4, 2)


@pytest.mark.parametrize("value", [0, 1, None, "True"])
def test_flags_are_booleans(value):
    with pytest.raises(TypeError, match="mix must be True or False"):
        checks.flag("mix", value)
    assert checks.flag("mix", np.bool_(True)) is True


def test_feature_versions():
    assert [checks.feature_version(version, 1, 2) for version in (1, np.int64(2))] == [1, 2]
    for wrong in (0, 3, None, True, "1"):
        with pytest.raises(ValueError, match=f"feature_version must be 1 or 2, got {wrong!r}: install the version"):
            checks.feature_version(wrong, 1, 2)


def test_num_steps():
    assert checks.num_steps(None) is None
    assert checks.num_steps(np.int32(5)) == 5
    traced = jnp.asarray(0)
    assert checks.num_steps(traced) is traced
    for wrong in (jnp.ones(2), jnp.asarray(1j)):
        with pytest.raises(TypeError, match="num_steps must be a scalar, got an array"):
            checks.num_steps(wrong)


@pytest.mark.parametrize("value", ["float16", "float64", "int32", "no dtype"])
def test_other_dtypes_of_moments_are_an_error(value):
    with pytest.raises(TypeError, match=r"moment_dtype must be jnp.float32, jnp.bfloat16 or None"):
        checks.moment_dtype(value)


def test_theta_of_another_shape_is_named():
    init = lambda key: {"w": jax.random.normal(key, (2, 3))}
    checks.theta({"w": np.zeros((2, 3))}, init, "mine")
    with pytest.raises(ValueError, match=r"\['w'\] should have shape \(2, 3\), got \(3, 2\)"):
        checks.theta({"w": np.zeros((3, 2))}, init, "mine")
