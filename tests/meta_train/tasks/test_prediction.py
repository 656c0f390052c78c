"""Classification and regression against NumPy, and minibatches on average over their draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import data
from meta_train import tasks
from meta_train.tasks.minibatches import MOST_HELD_OUT


def _start(task, key):
    sample_key, init_key = jax.random.split(key)
    config = task.sample(sample_key)
    return config, task.init(init_key, config)


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
    np.testing.assert_allclose(task.scale, np.log(3))

    losses, _ = _cross_entropy(params, dataset.train_x, dataset.train_y)
    draws = jax.jit(jax.vmap(lambda key, data: task.loss(params, key, data, ()), (0, None)))(
        jax.random.split(jax.random.key(0), 4_000), dataset
    )
    draws = np.asarray(draws, np.float64)
    assert abs(draws.mean() - losses.mean()) < 4 * losses.std() / np.sqrt(8 * 4_000)
    np.testing.assert_allclose(draws.std(), losses.std() / np.sqrt(8), rtol=0.05)  # eight rows, with replacement


def test_regression_equals_numpy():
    dataset = data.load("diabetes")
    task = tasks.tabular("diabetes", dataset, hidden_sizes=(4,), activation=jnp.tanh, batch_size=len(dataset.train_x))
    config, params = _start(task, jax.random.key(0))
    layers = [jax.tree.map(lambda x: np.asarray(x, np.float64), params[f"mlp/~/linear_{i}"]) for i in (0, 1)]

    def errors(x, y):
        hidden = np.tanh(x @ layers[0]["w"] + layers[0]["b"])
        return np.square((hidden @ layers[1]["w"] + layers[1]["b"])[:, 0] - y)

    held_out = errors(dataset.test_x, dataset.test_y).mean()
    np.testing.assert_allclose(task.evaluate(params, None, dataset, config)["loss"], held_out, rtol=1e-5)
    rows = jax.random.randint(jax.random.key(1), (len(dataset.train_x),), 0, len(dataset.train_x))
    loss = task.loss(params, jax.random.key(1), dataset, config)
    np.testing.assert_allclose(loss, errors(dataset.train_x[rows], dataset.train_y[rows]).mean(), rtol=1e-5)
    assert task.scale == 1.0


def test_evaluation_looks_at_no_more_than_its_share():
    x = np.zeros((MOST_HELD_OUT + 1000, 1), np.float32)
    y = np.where(np.arange(len(x)) < MOST_HELD_OUT, 0.0, 1e6).astype(np.float32)
    dataset = data.Dataset(x[:10], y[:10], x, y)
    task = tasks.regression("far", dataset, lambda x: x)
    assert task.evaluate({}, None, dataset, ())["loss"] == 0


def test_a_table_of_classes_is_classified():
    task = tasks.tabular("iris", data.load("iris"), hidden_sizes=(4,), normalization=lambda x: x - jnp.mean(x))
    config, params = _start(task, jax.random.key(0))
    assert "accuracy" in task.evaluate(params, None, task.data, config)
    assert params["mlp/~/linear_1"]["w"].shape == (4, 3)


def test_normalization_comes_before_the_activation():
    """Hidden layers of unit length: a doubled input makes no difference."""
    unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    dataset = data.load("iris")
    task = tasks.mlp("unit", dataset, hidden_sizes=(4,), normalization=unit)
    _, params = _start(task, jax.random.key(0))
    doubled = dataset._replace(test_x=2 * dataset.test_x)
    losses = [task.evaluate(params, None, held, ())["loss"] for held in (dataset, doubled)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_bad_batch_size():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        tasks.softmax_regression("wrong", data.load("iris"), batch_size=0)
