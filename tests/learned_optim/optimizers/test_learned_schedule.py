"""The learned schedule against optax.adam with a schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_optim

SHAPES = {"bias": (4,), "kernel": (3, 2, 5, 4), "scale": (), "w": (3, 5)}
KNOTS = np.asarray([0.5, -1.0, 2.0, -3.0], np.float32)


def _tree(seed):
    random = np.random.RandomState(seed)
    return {
        name: jax.device_put(np.asarray(random.standard_normal(shape), np.float32)) for name, shape in SHAPES.items()
    }


def _run(tx, num_steps=9):
    update_fn, params, made = jax.jit(tx.update), _tree(0), []
    state = tx.init(params)
    for seed in range(1, 1 + num_steps):
        updates, state = update_fn(_tree(seed), state, params)
        made.append(updates)
    return made


def _close(actual, expected, rtol=1e-5):
    for have, want in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(have, want, rtol=0, atol=rtol * np.max(np.abs(want)))


def _theta(num_knots=4, **changes):
    theta = learned_optim.learned_schedule(num_knots).init(jax.random.key(0))
    assert set(changes) <= set(theta)
    return theta | {name: jnp.asarray(value, jnp.float32) for name, value in changes.items()}


@pytest.mark.optax_promotion
def test_equals_optax_with_the_interpolated_schedule():
    """Nine steps of a plan of seven: steps 7 and 8 are past its end."""
    tx = learned_optim.learned_schedule(4).transform(_theta(log_knots=KNOTS, log_constant=9.0), num_steps=7)
    rates = 1e-3 * np.exp([np.interp(t / 7, [0, 1 / 3, 2 / 3, 1], KNOTS) for t in range(9)])
    assert rates[7] == rates[8] == 1e-3 * np.exp(-3.0)
    _close(_run(tx), _run(optax.adam(lambda count: jnp.asarray(rates, jnp.float32)[count])), rtol=2e-5)


@pytest.mark.optax_promotion
@pytest.mark.parametrize("num_steps", [None, 9])
def test_equals_optax_adam_before_meta_training(num_steps):
    optimizer = learned_optim.learned_schedule(initial_learning_rate=0.3, initial_b1=0.5, initial_b2=0.9)
    tx = optimizer.transform(optimizer.init(jax.random.key(0)), num_steps=num_steps)
    _close(_run(tx, 4), _run(optax.adam(0.3, b1=0.5, b2=0.9), 4))


def test_without_a_horizon_the_learned_constant_sets_the_level():
    optimizer = learned_optim.learned_schedule(4)
    plain = _run(optimizer.transform(_theta(log_knots=KNOTS)), 3)
    _close(plain, _run(optimizer.transform(_theta()), 3))
    louder = _run(optimizer.transform(_theta(log_knots=KNOTS, log_constant=np.log(5.0))), 3)
    _close(louder, jax.tree.map(lambda leaf: 5 * leaf, plain))


def test_a_traced_horizon_equals_a_known_one_and_below_1_counts_as_none():
    optimizer, theta = learned_optim.learned_schedule(4), _theta(log_knots=KNOTS, log_constant=0.7)
    params, grads = _tree(0), _tree(1)

    @jax.jit
    def second_update(num_steps):
        tx = optimizer.transform(theta, num_steps=num_steps)
        _, state = tx.update(grads, tx.init(params), params)
        return tx.update(grads, state, params)[0]

    def expected(num_steps):
        tx = optimizer.transform(theta, num_steps=num_steps)
        _, state = tx.update(grads, tx.init(params), params)
        return tx.update(grads, state, params)[0]

    _close(second_update(3), expected(3))
    _close(second_update(0), expected(None))


def test_only_the_neighboring_knots_get_a_derivative():
    """At step 1 of 6 with 4 knots progress is half way between the first two; the first step is at the first knot."""
    optimizer, grads = learned_optim.learned_schedule(4), jnp.ones(3)

    def total(knots, steps):
        tx = optimizer.transform(_theta(log_knots=np.zeros(4)) | {"log_knots": knots}, num_steps=6)
        state = tx.init(grads)
        for _ in range(steps):
            updates, state = tx.update(grads, state, grads)
        return jnp.sum(updates)

    first = jax.grad(total)(jnp.zeros(4), 1)
    np.testing.assert_allclose(first, [-3e-3, 0, 0, 0], rtol=1e-4, atol=1e-9)
    second = jax.grad(total)(jnp.zeros(4), 2)
    np.testing.assert_allclose(second, [-1.5e-3, -1.5e-3, 0, 0], rtol=1e-4, atol=1e-9)


def test_theta_and_spec():
    optimizer = learned_optim.learned_schedule()
    theta = optimizer.init(jax.random.key(0))
    assert {name: leaf.shape for name, leaf in theta.items()} == {
        "log_constant": (),
        "log_epsilon": (),
        "log_knots": (8,),
        "log_learning_rate": (),
        "log_one_minus_b1": (),
        "log_one_minus_b2": (),
    }
    assert optimizer.spec == {
        "kind": "learned_schedule",
        "feature_version": 1,
        "num_knots": 8,
        "initial_learning_rate": 1e-3,
        "initial_b1": 0.9,
        "initial_b2": 0.999,
        "initial_epsilon": 1e-8,
    }


def test_bad_arguments_are_an_error():
    with pytest.raises(ValueError, match="num_knots must be at least 2, got 1"):
        learned_optim.learned_schedule(1)
    with pytest.raises(TypeError):
        learned_optim.learned_schedule(4.0)
    with pytest.raises(ValueError, match="initial_b2 must be at least 0 and below 1"):
        learned_optim.learned_schedule(initial_b2=1.0)
    with pytest.raises(ValueError, match="initial_epsilon must be a positive finite number"):
        learned_optim.learned_schedule(initial_epsilon=0.0)
