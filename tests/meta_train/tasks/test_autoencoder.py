"""Autoencoders against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from meta_train import data
from meta_train import tasks


def test_equals_numpy():
    dataset = data.load("digits")
    task = tasks.autoencoder("code", dataset, hidden_sizes=(5, 2), activation=jnp.tanh, batch_size=4)
    params = task.init(jax.random.key(0), ())
    layers = [jax.tree.map(lambda x: np.asarray(x, np.float64), params[f"mlp/~/linear_{i}"]) for i in range(3)]

    def errors(x):
        h = x = x.reshape(len(x), 64).astype(np.float64)
        for layer in layers[:-1]:
            h = np.tanh(h @ layer["w"] + layer["b"])
        return np.square(h @ layers[-1]["w"] + layers[-1]["b"] - x).mean(axis=1)

    np.testing.assert_allclose(
        task.evaluate(params, None, dataset, ())["loss"], errors(dataset.test_x).mean(), rtol=1e-5
    )
    key = jax.random.key(1)
    rows = jax.random.randint(key, (4,), 0, len(dataset.train_x))
    np.testing.assert_allclose(task.loss(params, key, dataset, ()), errors(dataset.train_x[rows]).mean(), rtol=1e-5)


def test_it_is_normalised_by_the_loss_of_the_mean_image():
    dataset = data.load("digits")
    mean = dataset.train_x.mean(axis=0)
    scale = tasks.autoencoder("code", dataset).scale
    np.testing.assert_allclose(scale, np.square(dataset.train_x - mean).mean(), rtol=1e-5)
