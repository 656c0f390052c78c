"""Learned momentum against optax.sgd with momentum."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_optim

SHAPES = {"bias": (4,), "kernel": (3, 2, 5, 4), "scale": (), "w": (3, 5)}


def _tree(seed):
    random = np.random.RandomState(seed)
    return {
        name: jax.device_put(np.asarray(random.standard_normal(shape), np.float32)) for name, shape in SHAPES.items()
    }


def _run(tx, num_steps=4):
    update_fn, params, made = jax.jit(tx.update), _tree(0), []
    state = tx.init(params)
    for seed in range(1, 1 + num_steps):
        updates, state = update_fn(_tree(seed), state, params)
        made.append(updates)
    return made, state


def _close(actual, expected):
    for have, want in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(have, want, rtol=0, atol=2e-6 * np.max(np.abs(want)))


@pytest.mark.parametrize(("learning_rate", "momentum"), [(0.1, 0.9), (3e-4, 0.0), (2.0, 0.999)])
def test_equals_optax(learning_rate, momentum):
    optimizer = learned_optim.learned_momentum(learning_rate, momentum)
    made, _ = _run(optimizer.transform(optimizer.init(jax.random.key(0)), num_steps=4))
    expected, _ = _run(optax.sgd(learning_rate, momentum=momentum))
    _close(made, expected)


def test_theta_holds_the_logs_of_the_rate_and_of_one_minus_momentum():
    optimizer = learned_optim.learned_momentum()
    theta = optimizer.init(jax.random.key(0))
    assert sorted(theta) == ["log_learning_rate", "log_one_minus_momentum"]
    moved = {
        "log_learning_rate": theta["log_learning_rate"] + np.log(2.0).astype(np.float32),
        "log_one_minus_momentum": theta["log_one_minus_momentum"] + np.log(5.0).astype(np.float32),
    }
    _close(_run(optimizer.transform(moved))[0], _run(optax.sgd(0.2, momentum=0.5))[0])


def test_momentum_is_clipped_to_its_bounds():
    """Of one gradient of 1, the trace a step later holds the momentum."""
    optimizer = learned_optim.learned_momentum(1.0)
    ones, none = jnp.ones(1), jnp.zeros(1)
    for log_one_minus, expected in ((3.0, 0.0), (-1000.0, 1.0)):
        theta = optimizer.init(jax.random.key(0)) | {"log_one_minus_momentum": jnp.asarray(log_one_minus)}
        tx = optimizer.transform(theta)
        _, state = tx.update(ones, tx.init(ones), ones)
        updates, _ = tx.update(none, state, ones)
        np.testing.assert_allclose(updates, [-expected], atol=2e-7)


def test_moment_dtype_is_that_of_the_trace():
    optimizer = learned_optim.learned_momentum()
    tx = optimizer.transform(optimizer.init(jax.random.key(0)), moment_dtype=jnp.bfloat16)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(_run(tx)[1].slots)} == {"bfloat16"}


def test_state_is_one_copy_of_the_parameters():
    optimizer = learned_optim.learned_momentum()
    params = _tree(0)
    state = optimizer.transform(optimizer.init(jax.random.key(0))).init(params)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 1 + sum(leaf.size for leaf in jax.tree.leaves(params))


def test_spec():
    assert learned_optim.learned_momentum().spec == {
        "kind": "learned_momentum",
        "feature_version": 1,
        "initial_learning_rate": 0.1,
        "initial_momentum": 0.9,
    }


def test_bad_hyperparameters_are_an_error():
    with pytest.raises(ValueError, match="initial_learning_rate must be a positive finite number"):
        learned_optim.learned_momentum(0.0)
    with pytest.raises(ValueError, match="initial_momentum must be at least 0 and below 1"):
        learned_optim.learned_momentum(0.1, 1.0)
