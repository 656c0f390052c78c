"""Learned Adam against optax.adam and against Adam's equations in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_optim

SHAPES = {"bias": (4,), "kernel": (3, 2, 5, 4), "scale": (), "w": (3, 5)}


def _tree(seed):
    random = np.random.RandomState(seed)
    return {name: random.standard_normal(shape) * 10.0 ** random.randint(-3, 2) for name, shape in SHAPES.items()}


def _float32(tree):
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf, np.float32)), tree)


def _run(tx, num_steps=4):
    update_fn, params, made = jax.jit(tx.update), _float32(_tree(0)), []
    state = tx.init(params)
    for seed in range(1, 1 + num_steps):
        updates, state = update_fn(_float32(_tree(seed)), state, params)
        made.append(updates)
    return made, state


def _close(actual, expected, rtol):
    for have, want in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(have, want, rtol=0, atol=rtol * np.max(np.abs(want)))


def _published_updates(rate, b1, b2, epsilon, num_steps=4):
    m = v = jax.tree.map(np.zeros_like, _tree(0))
    made = []
    for t in range(1, 1 + num_steps):
        g = _tree(t)
        m = {name: b1 * m[name] + (1 - b1) * g[name] for name in g}
        v = {name: b2 * v[name] + (1 - b2) * g[name] ** 2 for name in g}
        m_hat, v_hat = ({name: x[name] / (1 - b**t) for name in g} for x, b in ((m, b1), (v, b2)))
        made.append({name: -rate * m_hat[name] / (np.sqrt(v_hat[name]) + epsilon) for name in g})
    return made


HYPERPARAMETERS = [(1e-3, 0.9, 0.999, 1e-8), (0.3, 0.5, 0.95, 1e-2), (1e-2, 0.0, 0.9999, 1e-10)]


def _built(rate, b1, b2, epsilon):
    optimizer = learned_optim.learned_adam(rate, initial_b1=b1, initial_b2=b2, initial_epsilon=epsilon)
    return optimizer.transform(optimizer.init(jax.random.key(0)), num_steps=4)


@pytest.mark.optax_promotion
@pytest.mark.parametrize("values", HYPERPARAMETERS)
def test_equals_optax(values):
    """To the accuracy of optax's 1 - b2 ** t, which takes b2 in float32 and so is wrong by up to 3e-8 / (1 - b2)."""
    rate, b1, b2, epsilon = values
    expected, _ = _run(optax.adam(rate, b1=b1, b2=b2, eps=epsilon))
    _close(_run(_built(*values))[0], expected, rtol=max(2e-6, 3e-8 / (1 - b2)))


@pytest.mark.parametrize("values", HYPERPARAMETERS)
def test_equals_the_published_definition(values):
    _close(_run(_built(*values))[0], _published_updates(*values), rtol=2e-6)


def test_epsilon_root_is_added_to_the_second_moment():
    """1e-8 there, as in the authors' code, changes what a gradient of 1e-4 does."""
    optimizer = learned_optim.learned_adam(0.05, epsilon_root=1e-8)
    assert optimizer.spec == {**learned_optim.learned_adam(0.05).spec, "epsilon_root": 1e-8}
    grads = jnp.asarray([1e-4, -1.0])
    tx = optimizer.transform(optimizer.init(jax.random.key(0)))
    updates, _ = jax.jit(tx.update)(grads, tx.init(grads), grads)
    np.testing.assert_allclose(updates, [-0.05 * 1e-4 / (np.sqrt(2e-8) + 1e-8), 0.05], rtol=1e-5)
    with pytest.raises(ValueError, match=r"epsilon_root must be at least 0, such as 1e-8, got -1\.0"):
        learned_optim.learned_adam(epsilon_root=-1)


def test_theta_holds_logs():
    optimizer = learned_optim.learned_adam()
    theta = optimizer.init(jax.random.key(0))
    assert sorted(theta) == ["log_epsilon", "log_learning_rate", "log_one_minus_b1", "log_one_minus_b2"]
    values = {"log_learning_rate": 0.5, "log_one_minus_b1": 0.3, "log_one_minus_b2": 0.05, "log_epsilon": 0.2}
    moved = {name: jnp.log(jnp.asarray(values[name])) for name in theta}
    _close(_run(optimizer.transform(moved))[0], _published_updates(0.5, 0.7, 0.95, 0.2), rtol=2e-6)


def test_moment_dtype_is_that_of_the_first_moment():
    optimizer = learned_optim.learned_adam()
    tx = optimizer.transform(optimizer.init(jax.random.key(0)), moment_dtype=jnp.bfloat16)
    first, second = _run(tx)[1].slots
    assert {leaf.dtype.name for leaf in jax.tree.leaves(first)} == {"bfloat16"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(second)} == {"float32"}


def test_derivatives_with_respect_to_theta_are_finite_where_gradients_vanish():
    optimizer = learned_optim.learned_adam()
    grads = jnp.asarray([0.0, 1.0])

    def total(theta):
        tx = optimizer.transform(theta)
        step = lambda state, _: tx.update(grads, state, grads)[::-1]
        return jnp.sum(jax.lax.scan(step, tx.init(grads), None, length=3)[1])

    derivative = jax.jit(jax.grad(total))(optimizer.init(jax.random.key(0)))
    assert all(np.isfinite(leaf) for leaf in jax.tree.leaves(derivative))
    np.testing.assert_allclose(derivative["log_learning_rate"], -3e-3, rtol=1e-5)


def test_spec():
    assert learned_optim.learned_adam().spec == {
        "kind": "learned_adam",
        "feature_version": 1,
        "initial_learning_rate": 1e-3,
        "initial_b1": 0.9,
        "initial_b2": 0.999,
        "initial_epsilon": 1e-8,
    }


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("initial_learning_rate", 0.0, "a positive finite number"),
        ("initial_epsilon", 0.0, "a positive finite number"),
        ("initial_b1", 1.0, "at least 0 and below 1"),
        ("initial_b2", -0.1, "at least 0 and below 1"),
    ],
)
def test_bad_hyperparameters_are_an_error(name, value, rule):
    with pytest.raises(ValueError, match=f"{name} must be {rule}"):
        learned_optim.learned_adam(**{name: value})
