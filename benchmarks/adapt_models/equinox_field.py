"""A neural field: a perceptron that maps places in a photograph to colors, in Equinox.

Half of the pixels, as on a chessboard, are to train on. Places enter as Fourier features (Tancik et al. 2020,
https://arxiv.org/abs/2006.10739).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_sample_image

photo = np.asarray(load_sample_image("china.jpg"), np.float32)[:424, :640] / 255
photo = photo.reshape(53, 8, 80, 8, 3).mean(axis=(1, 3))  # 53 × 80 pixels
row, column = np.mgrid[: photo.shape[0], : photo.shape[1]]
places = np.stack([2 * row / photo.shape[0] - 1, 2 * column / photo.shape[1] - 1], axis=-1).astype(np.float32)
to_train = (row + column) % 2 == 0
data = {"place": places[to_train], "color": photo[to_train]}
batch_size = 128

frequencies = np.random.default_rng(0).normal(size=(2, 32), scale=5).astype(np.float32)


class Field(eqx.Module):
    """Fourier features, then a perceptron."""

    mlp: eqx.nn.MLP

    def __init__(self, key):
        self.mlp = eqx.nn.MLP(in_size=64, out_size=3, width_size=48, depth=2, key=key)

    def __call__(self, place):
        angles = place @ frequencies
        return jax.nn.sigmoid(self.mlp(jnp.concatenate([jnp.sin(angles), jnp.cos(angles)])))


rest = eqx.filter(Field(jax.random.key(0)), eqx.is_inexact_array, inverse=True)


def init(key):
    return eqx.filter(Field(key), eqx.is_inexact_array)


def loss(params, batch, key):
    predicted = jax.vmap(eqx.combine(params, rest))(batch["place"])
    return jnp.mean((predicted - batch["color"]) ** 2)


def held_out(key):
    return {"place": places[~to_train], "color": photo[~to_train]}
