"""The contract of every task in the registry, and the mathematics of the families behind them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import data
from meta_train import tasks
from meta_train.tasks.base import log_normalizer

get = functools.cache(tasks.get)


def _start(task, key):
    """The configuration and first parameters of an episode."""
    sample_key, init_key = jax.random.split(key)
    config = task.sample(sample_key)
    return config, task.init(init_key, config)


@pytest.mark.parametrize("name", tasks.TASKS)
def test_first_losses(name):
    """They are finite, fixed by the key, and about the scale that the task is normalised by."""
    task = get(name)
    assert task.name == name

    @jax.jit
    def first(key, data):
        start_key, loss_key, other_key = jax.random.split(key, 3)
        config, params = _start(task, start_key)
        losses = [task.loss(params, key, data, config) for key in (loss_key, other_key)]
        return losses, task.normalize(losses[0]), task.evaluate(params, key, data, config)

    keys = jax.random.split(jax.random.key(0), 32)
    run = jax.vmap(first, (0, None))
    (losses, other), normalized, held_out = run(keys, task.data)
    assert losses.dtype == jnp.float32
    np.testing.assert_array_equal(losses, run(keys, task.data)[0][0])
    if jax.tree.leaves(task.data):  # the minibatch depends on the key
        assert np.all(losses != other)
    assert len(set(np.asarray(losses).tolist())) == 32
    assert np.all(np.isfinite(losses))
    assert 0.8 < np.mean(np.exp(normalized) - 0.02) < 1.3
    assert 0.8 < np.mean(held_out["loss"]) / np.mean(losses) < 1.25


@pytest.mark.optax_promotion
@pytest.mark.parametrize("name", tasks.TASKS)
def test_fifty_steps_of_adam_lower_the_loss(name):
    task, tx = get(name), optax.adam(1e-1 if name == "quadratic" else 1e-2)

    @jax.jit
    def train(key, data):
        start_key, key = jax.random.split(key)
        config, params = _start(task, start_key)

        def step(carry, key):
            params, state = carry
            loss, grads = jax.value_and_grad(task.loss)(params, key, data, config)
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), loss

        (params, _), losses = jax.lax.scan(step, (params, tx.init(params)), jax.random.split(key, 50))
        return losses, task.evaluate(params, key, data, config), task.evaluate(params, start_key, data, config)

    losses, metrics, again = jax.vmap(train, (0, None))(jax.random.split(jax.random.key(1), 2), task.data)
    assert np.all(losses[:, -10:].mean(axis=1) < 0.6 * losses[:, 0])
    assert np.all(metrics["loss"] < 0.7 * losses[:, 0])
    if "accuracy" in metrics:
        assert np.all(metrics["accuracy"] > 0.7)
        assert np.all(metrics["accuracy"] <= 1)
    for name, value in metrics.items():  # on all of the held-out part, whatever the key
        np.testing.assert_array_equal(value, again[name])


@pytest.mark.parametrize("name", tasks.TASKS)
def test_normalize_is_finite_and_monotone(name):
    losses = jnp.array([0.0, 1e-30, 1e-3, 0.1, 1.0, 3.0, 1e30, jnp.inf])
    normalized = get(name).normalize(losses)
    assert np.all(np.isfinite(normalized))
    assert np.all(np.diff(normalized) >= 0)
    assert np.all(np.diff(normalized[2:6]) > 0.05)
    np.testing.assert_array_equal(get(name).normalize(jnp.nan), normalized[-1])


def test_log_normalizer():
    losses = np.array([0.0, 1.0, 2.0, 19.9, 20.1, np.inf, np.nan], np.float32)
    expected = np.log([0.02, 0.52, 1.02, 9.97, 10.02, 10.02, 10.02])
    np.testing.assert_allclose(log_normalizer(2.0)(losses), expected, rtol=1e-5)


def test_every_task_is_in_one_suite():
    suites = [tasks.suite(name) for name in ("meta-train", "validation", "test")]
    assert suites == [tasks.META_TRAIN, tasks.VALIDATION, tasks.TEST]
    assert sorted(name for suite in suites for name in suite) == sorted(tasks.TASKS)


def test_unknown_names():
    with pytest.raises(ValueError, match=r"no task 'digit-mlp'. Did you mean 'digits-mlp'\? Choose from digits-mlp, "):
        tasks.get("digit-mlp")
    with pytest.raises(ValueError, match=r"no suite 'train'. Choose from meta-train, validation, test"):
        tasks.suite("train")


def test_quadratic_equals_numpy():
    task = tasks.quadratic(size=4)
    config, params = _start(task, jax.random.key(0))
    matrix, target = (np.asarray(x, np.float64) for x in config)
    x = np.asarray(params["x"], np.float64)
    assert (matrix.shape, target.shape, x.shape) == ((4, 4), (4,), (4,))
    loss, grads = jax.value_and_grad(task.loss)(params, jax.random.key(1), (), config)
    residual = matrix @ x - target
    np.testing.assert_allclose(loss, np.sum(residual**2) / 4, rtol=1e-5)
    np.testing.assert_allclose(grads["x"], matrix.T @ residual / 2, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(task.evaluate(params, None, (), config)["loss"], loss)


def test_quadratic_is_normalised_by_its_expected_first_loss():
    task = tasks.quadratic(size=3)

    def loss(key):
        config, params = _start(task, key)
        return task.loss(params, key, (), config)

    losses = np.asarray(jax.jit(jax.vmap(loss))(jax.random.split(jax.random.key(0), 10_000)))
    error = losses.std() / 100
    assert abs(losses.mean() - 4) < 4 * error
    assert error < 0.06
    np.testing.assert_allclose(task.normalize(4.0), np.log(1.02), rtol=1e-5)


def _cross_entropy(params, x, y):
    logits = x @ np.asarray(params["linear"]["w"], np.float64) + np.asarray(params["linear"]["b"], np.float64)
    log_probabilities = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
    return -log_probabilities[np.arange(len(y)), y], logits


def test_classification_equals_numpy():
    """Softmax regression: held-out loss and accuracy exactly, minibatches on average over their draws."""
    dataset = data.load("iris")
    task = tasks.softmax_regression("iris-softmax", dataset, batch_size=8)
    _, params = _start(task, jax.random.key(3))
    losses, logits = _cross_entropy(params, dataset.test_x, dataset.test_y)
    metrics = task.evaluate(params, None, dataset, ())
    np.testing.assert_allclose(metrics["loss"], losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], np.mean(logits.argmax(axis=1) == dataset.test_y), rtol=1e-6)

    losses, _ = _cross_entropy(params, dataset.train_x, dataset.train_y)
    draws = jax.jit(jax.vmap(lambda key, data: task.loss(params, key, data, ()), (0, None)))(
        jax.random.split(jax.random.key(0), 4_000), dataset
    )
    draws = np.asarray(draws, np.float64)
    assert abs(draws.mean() - losses.mean()) < 4 * losses.std() / np.sqrt(8 * 4_000)
    np.testing.assert_allclose(draws.std(), losses.std() / np.sqrt(8), rtol=0.05)  # eight rows, with replacement


def test_init_scale_draws_a_factor_for_each_episode():
    dataset = data.load("iris")
    family = tasks.mlp("scaled", dataset, hidden_sizes=(4,), init_scale=(1e-3, 10.0))
    plain = tasks.mlp("plain", dataset, hidden_sizes=(4,))
    factors = np.asarray(jax.vmap(family.sample)(jax.random.split(jax.random.key(0), 4_000)))
    assert 1e-3 <= factors.min() < 1.1e-3
    assert 9 < factors.max() <= 10
    exponents = np.log10(factors)  # uniform on -3 … 1
    assert abs(exponents.mean() - -1) < 4 * np.sqrt(16 / 12 / 4_000)
    np.testing.assert_allclose(exponents.std(), np.sqrt(16 / 12), rtol=0.05)

    scaled, unscaled = (task.init(jax.random.key(1), config) for task, config in ((family, 0.5), (plain, ())))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, 0.5 * b, rtol=1e-6), scaled, unscaled)
    assert plain.sample(jax.random.key(0)) == ()


@pytest.mark.parametrize(
    "arguments", [{"batch_size": 0}, {"init_scale": (0.0, 1.0)}, {"init_scale": (2.0, 1.0)}, {"init_scale": (-1, 1)}]
)
def test_bad_arguments_of_a_classification(arguments):
    with pytest.raises(ValueError, match="batch_size must be at least 1 and init_scale a pair 0 < low <= high, got "):
        tasks.softmax_regression("wrong", data.load("iris"), **arguments)


def test_bad_size_of_a_quadratic():
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        tasks.quadratic(size=0)
