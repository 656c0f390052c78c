"""Learned SGD against optax.sgd."""

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


def _run(tx, num_steps=3):
    update_fn, params, made = jax.jit(tx.update), _tree(0), []
    state = tx.init(params)
    for seed in range(1, 1 + num_steps):
        updates, state = update_fn(_tree(seed), state, params)
        made.append(updates)
    return made


@pytest.mark.parametrize("learning_rate", [0.1, 3e-4, 7.0])
@pytest.mark.parametrize("num_steps", [None, 3])
def test_equals_optax(learning_rate, num_steps):
    optimizer = learned_optim.learned_sgd(learning_rate)
    made = _run(optimizer.transform(optimizer.init(jax.random.key(0)), num_steps=num_steps))
    for have, want in zip(jax.tree.leaves(made), jax.tree.leaves(_run(optax.sgd(learning_rate))), strict=True):
        np.testing.assert_allclose(have, want, rtol=2e-6)


def test_theta_is_the_log_of_the_rate():
    optimizer = learned_optim.learned_sgd()
    theta = optimizer.init(jax.random.key(0))
    assert theta == {"log_learning_rate": np.log(np.float32(0.1))}
    plain = _run(optimizer.transform(theta))
    doubled = _run(optimizer.transform({"log_learning_rate": theta["log_learning_rate"] + jnp.log(2.0)}))
    for have, want in zip(jax.tree.leaves(doubled), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(have, 2 * want, rtol=2e-6)


def test_derivative_with_respect_to_theta_is_that_of_the_rate():
    """d update / d log rate = update."""
    optimizer = learned_optim.learned_sgd(0.5)
    grads = jnp.asarray([1.0, -3.0, 0.0])

    def total(theta):
        tx = optimizer.transform(theta)
        return jnp.sum(tx.update(grads, tx.init(grads), grads)[0])

    np.testing.assert_allclose(jax.grad(total)(optimizer.init(jax.random.key(0)))["log_learning_rate"], 1.0, rtol=1e-6)


def test_state_is_a_step_counter():
    optimizer = learned_optim.learned_sgd()
    state = optimizer.transform(optimizer.init(jax.random.key(0))).init(_tree(0))
    assert [leaf.shape for leaf in jax.tree.leaves(state)] == [()]


def test_spec():
    expected = {"kind": "learned_sgd", "feature_version": 1, "initial_learning_rate": 0.1}
    assert learned_optim.learned_sgd().spec == expected


@pytest.mark.parametrize("learning_rate", [0.0, -0.1, float("nan")])
def test_bad_rates_are_an_error(learning_rate):
    with pytest.raises(ValueError, match=r"initial_learning_rate must be a (positive )?finite number"):
        learned_optim.learned_sgd(learning_rate)
