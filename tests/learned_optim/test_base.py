"""What `define` adds to every architecture, beyond what the contract tests at each of them."""

import jax.numpy as jnp
import numpy as np
import pytest

import learned_optim
from learned_optim import base

PARAMS = {"w": jnp.ones((2, 3))}


def _halving():
    """Updates that halve the parameters, with a slot whose dtype the user chooses."""

    def update(grad, param, slots, step):
        del grad, step
        return -0.5 * param, slots

    def init(key):
        del key
        return {"unused": jnp.zeros(())}

    def rule(theta, horizon):
        del theta, horizon
        return base.per_tensor((base.momentum,), update)

    return base.define({"kind": "halving", "feature_version": 1}, init, rule)


def _slot_dtypes(tx):
    return {slot["w"].dtype.name for slot in tx.init(PARAMS).slots}


def test_an_architecture_needs_no_other_module():
    """Everything that CONTRIBUTING names is exported here."""
    names = ("LearnedOptimizer", "Rule", "TensorSlot", "define", "momentum", "number", "per_tensor", "zeros")
    assert all(callable(getattr(base, name)) or name == "number" for name in names)
    assert isinstance(base.number, base.TensorSlot)


def test_mu_dtype_is_a_deprecated_alias_of_moment_dtype():
    optimizer = _halving()
    theta = optimizer.init(None)
    with pytest.warns(DeprecationWarning, match="mu_dtype is a deprecated alias: pass moment_dtype") as record:
        tx = optimizer.transform(theta, mu_dtype=jnp.bfloat16)
    assert [warning.filename for warning in record] == [__file__]
    assert _slot_dtypes(tx) == {"bfloat16"}
    assert _slot_dtypes(optimizer.transform(theta, moment_dtype=jnp.bfloat16)) == {"bfloat16"}
    assert _slot_dtypes(optimizer.transform(theta)) == {"float32"}


def test_mu_dtype_of_a_released_optimizer_warns_where_the_user_called():
    with pytest.warns(DeprecationWarning, match="mu_dtype is a deprecated alias") as record:
        tx = learned_optim.learned_optimizer("mlp-digits-v1", mu_dtype=jnp.bfloat16)
    assert [warning.filename for warning in record] == [__file__]
    assert {leaf["w"].dtype.name for leaf in tx.init(PARAMS).slots.momenta} == {"bfloat16"}


def test_both_names_of_the_dtype_are_an_error():
    optimizer = _halving()
    with pytest.raises(TypeError, match=r"mu_dtype=.* is an alias of moment_dtype=.*: pass moment_dtype alone"):
        optimizer.transform(optimizer.init(None), moment_dtype=jnp.float32, mu_dtype=jnp.float32)


def test_weight_decay_needs_no_step_scale():
    optimizer = _halving()
    tx = optimizer.transform(optimizer.init(None), weight_decay=0.25)
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    np.testing.assert_array_equal(updates["w"], np.full((2, 3), -0.75))
