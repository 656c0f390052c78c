"""The evidence lower bound against NumPy, and its gradient by finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import data
from meta_train import tasks


def _bound(params, x, noise):
    """Negative bound in nats a pixel, of a VAE with one hidden layer and two latent dimensions."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def mlp(name, h):
        h = np.maximum(h @ p[f"{name}/~/linear_0"]["w"] + p[f"{name}/~/linear_0"]["b"], 0)
        return h @ p[f"{name}/~/linear_1"]["w"] + p[f"{name}/~/linear_1"]["b"]

    mean, log_variance = np.split(mlp("encoder", x), 2, axis=1)
    probability = 1 / (1 + np.exp(-mlp("decoder", mean + np.exp(log_variance / 2) * noise)))
    likelihood = x * np.log(probability) + (1 - x) * np.log(1 - probability)
    divergence = (np.exp(log_variance) + mean**2 - 1 - log_variance) / 2
    return (divergence.sum(axis=1) - likelihood.sum(axis=1)).mean() / x.shape[1]


def test_equals_numpy():
    dataset = data.load("digits")
    task = tasks.vae("vae", dataset, hidden_sizes=(6,), latent_size=2, batch_size=8)
    random = np.random.RandomState(0)
    params = jax.jit(task.init)(jax.random.key(0), ())
    params = jax.tree.map(lambda p: np.float32(p + 0.2 * random.standard_normal(p.shape)), params)
    key = jax.random.key(1)
    rows = jax.random.randint(key, (8,), 0, len(dataset.train_x))
    noise = np.asarray(jax.random.normal(jax.random.fold_in(key, 1), (8, 2)), np.float64)
    expected = _bound(params, dataset.train_x[rows].reshape(8, 64).astype(np.float64), noise)
    np.testing.assert_allclose(jax.jit(task.loss)(params, key, dataset, ()), expected, rtol=1e-5)

    count = len(dataset.test_x)
    noise = np.asarray(jax.random.normal(jax.random.key(0), (count, 2)), np.float64)
    expected = _bound(params, dataset.test_x.reshape(count, 64).astype(np.float64), noise)
    np.testing.assert_allclose(jax.jit(task.evaluate)(params, None, dataset, ())["loss"], expected, rtol=1e-5)


def test_the_gradient_goes_through_the_latent_variables():
    """Along a random direction it equals a finite difference, encoder included."""
    dataset = data.load("digits")
    task = tasks.vae("vae", dataset, hidden_sizes=(6,), latent_size=2, batch_size=8)
    random = np.random.RandomState(2)
    params = jax.jit(task.init)(jax.random.key(0), ())
    direction = jax.tree.map(lambda p: np.float32(random.standard_normal(p.shape)), params)
    with jax.enable_x64(True):
        widen = lambda tree: jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)
        loss = lambda step: task.loss(
            jax.tree.map(lambda p, d: p + step * d, widen(params), widen(direction)),
            jax.random.key(1),
            widen(dataset),
            (),
        )
        slope = jax.jit(jax.value_and_grad(loss))
        difference = (slope(1e-5)[0] - slope(-1e-5)[0]) / 2e-5
        np.testing.assert_allclose(slope(0.0)[1], difference, rtol=1e-6)


def test_tables_are_refused():
    with pytest.raises(ValueError, match=r"this task needs images, .*, got \(120, 4\): choose another"):
        tasks.vae("wrong", data.load("iris"))
