"""Schedules of SGD: one hypergradient by three estimators and by the paper's recursion, and the optax code alike."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Bilevel
from meta_train import estimators
from meta_train import problems
from meta_train import truncation
from meta_train.problems.hyperparameters import block_of

RNG = np.random.default_rng(0)
INPUTS, TARGETS = RNG.normal(size=(24, 3)), RNG.normal(size=24)
NUM_STEPS = 20


def _loss(params, theta, key, data):
    """A small network on a minibatch."""
    inputs, targets = map(jnp.asarray, data)
    rows = jax.random.randint(key, (8,), 0, len(inputs))
    return jnp.mean((jnp.tanh(inputs[rows] @ params["first"]) @ params["second"] - targets[rows]) ** 2)


def _init(key, theta):
    return {"first": 0.5 * jax.random.normal(key, (3, 4)), "second": jnp.linspace(-1.0, 1.0, 4)}


NETWORK = Bilevel(_loss, _loss, _init, (INPUTS, TARGETS), "network")


def _theta():
    """Three blocks, of which no two numbers are alike."""
    return problems.HyperTheta(
        jnp.log(jnp.array([0.02, 0.05, 0.03])), jnp.array([0.5, 1.5, 2.0]), jnp.log(jnp.array([0.01, 0.1, 0.03]))
    )


def _gradient(make, problem, theta, num_steps=NUM_STEPS):
    estimator = make(problem, num_particles=1, horizon=truncation.constant(num_steps))
    state = estimator.init(jax.random.key(0), theta)
    gradient, _, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
    return jnp.concatenate(gradient), info.loss


def test_forward_backward_and_reversed_give_the_same_hypergradient():
    """On the same episode. The draws of `reversible` have keys of their own, so its problem draws nothing."""
    still = lambda params, theta, key, data: _loss(params, theta, jax.random.key(3), data)
    fixed = NETWORK._replace(inner_loss=still, outer_loss=still, init=lambda key, theta: _init(jax.random.key(4), ()))
    with jax.enable_x64(True):
        theta = _theta()
        for counted in (1, 5):
            problem = problems.hyperparameters(fixed, num_steps=NUM_STEPS, num_counted=counted)
            expected, loss = _gradient(estimators.full_backprop, problem, theta)
            assert np.abs(expected).min() > 1e-7 and expected.dtype == np.float64
            for make in (estimators.forward_mode, functools.partial(estimators.reversible, min_decay=0.5)):
                gradient, other = _gradient(make, problem, theta)
                np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-12)
                np.testing.assert_allclose(other, loss, rtol=1e-8)


def test_the_paper_s_recursion():
    """C' = mu C + H Z + omega Z, with v on the column of the momentum and w on that of the decay; Z' = Z - alpha C',
    with v' on the column of the rate. On a quadratic, in NumPy."""
    hessian, start = np.array([[2.0, 0.3], [0.3, 1.0]]), np.array([1.0, -0.7])
    quadratic = Bilevel(
        lambda w, theta, key, data: 0.5 * w @ data @ w,
        lambda w, theta, key, data: 0.5 * jnp.sum((w - 1.0) ** 2),
        lambda key, theta: jnp.asarray(start),
        hessian,
    )
    with jax.enable_x64(True):
        theta = _theta()
        values = jax.tree.map(np.asarray, problems.schedules(theta))
        problem = problems.hyperparameters(quadratic, num_steps=NUM_STEPS)
        gradient, loss = _gradient(estimators.forward_mode, problem, theta)
    w, v = start, np.zeros(2)
    z, c = np.zeros((2, 9)), np.zeros((2, 9))  # columns: rates, momenta, decays
    for step in range(NUM_STEPS):
        block = int(block_of(step, NUM_STEPS, 3))
        rate, momentum, decay = (leaf[block] for leaf in values)
        c = momentum * c + hessian @ z + decay * z
        c[:, 3 + block] += v
        c[:, 6 + block] += w
        v = momentum * v + hessian @ w + decay * w
        z = z - rate * c
        z[:, block] -= v
        w = w - rate * v
    momenta = np.asarray(jax.nn.sigmoid(theta.momentum))
    chain = np.concatenate([values.learning_rate, momenta * (1 - momenta), values.weight_decay])  # of logs and log-odds
    np.testing.assert_allclose(gradient, (w - 1.0) @ z * chain, rtol=1e-12)
    np.testing.assert_allclose(loss, 0.5 * np.sum((w - 1.0) ** 2), rtol=1e-12)


@pytest.mark.optax_promotion
def test_steps_are_those_of_optax():
    theta = jax.tree.map(lambda x: x.astype(jnp.float32), _theta())
    values = problems.schedules(theta)
    problem = problems.hyperparameters(NETWORK, num_steps=6)
    at = lambda numbers: lambda count: numbers[block_of(count, 6, 3)]
    tx = optax.chain(
        optax.inject_hyperparams(optax.add_decayed_weights)(weight_decay=at(values.weight_decay)),
        optax.inject_hyperparams(optax.sgd)(learning_rate=at(values.learning_rate), momentum=at(values.momentum)),
    )
    state = problem.init(jax.random.key(0), theta, 6)
    params, opt_state = state.params, tx.init(state.params)
    for step in range(6):
        key = jax.random.key(step)
        inner_key, _ = jax.random.split(key)
        grads = jax.grad(_loss)(params, (), inner_key, NETWORK.data)
        updates, opt_state = tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        state, loss = problem.step(key, theta, state, problem.data)
        assert (loss == 0.0) == (step < 5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), state.params, params)


def test_memory_of_forward_mode_does_not_grow_with_the_horizon():
    """But for a number that tells the loss of each step. Weights are 4,096; a state for each would be 33 kB a step."""
    loss = lambda w, theta, key, data: jnp.sum(jnp.sin(w) ** 2)
    bilevel = Bilevel(loss, loss, lambda key, theta: jnp.ones(4096))
    theta = problems.hyper_theta(learning_rate=0.1, num_blocks=2)

    def memory(num_steps):
        problem = problems.hyperparameters(bilevel, num_steps=num_steps)
        estimator = estimators.forward_mode(problem, num_particles=1, horizon=truncation.constant(num_steps))
        state = estimator.init(jax.random.key(0), theta)
        compiled = jax.jit(estimator.estimate).lower(jax.random.key(1), theta, state, ()).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    few, many = memory(50), memory(5000)
    assert 4096 * 4 * 7 < few < 4096 * 4 * 60
    assert many - few <= 4950 * 4 * 4


def test_blocks_are_as_equal_as_can_be():
    blocks = [int(block_of(step, 10, 4)) for step in range(12)]
    assert blocks == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 3]


def test_an_episode_of_another_length_has_no_loss():
    problem = problems.hyperparameters(NETWORK, num_steps=4)
    theta = problems.hyper_theta(learning_rate=0.1, num_blocks=2)
    state = problem.init(jax.random.key(0), theta, 5)
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(state.params))
    with pytest.raises(ValueError, match="made for episodes of 4 steps, got 5"):
        estimators.reversible(problem, num_particles=1, horizon=truncation.constant(5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: problems.hyper_theta(learning_rate=0.0), "learning_rate must be positive, got 0"),
        (lambda: problems.hyper_theta(learning_rate=1.0, momentum=1.0), "momentum must be at least 0 and below 1"),
        (lambda: problems.hyper_theta(learning_rate=1.0, weight_decay=-1.0), "weight_decay must not be negative"),
        (lambda: problems.hyper_theta(learning_rate=1.0, num_blocks=0), "num_blocks must be at least 1, got 0"),
        (lambda: problems.hyperparameters(NETWORK, num_steps=0), "num_steps must be at least 1, got 0"),
        (
            lambda: problems.hyperparameters(NETWORK, num_steps=3, num_counted=4),
            "num_counted must lie between 1 and num_steps=3, got 4",
        ),
    ],
)
def test_arguments_out_of_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()
