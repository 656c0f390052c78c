"""A convolutional net for handwritten digits, in the style of Flax's MNIST tutorial, with scikit-learn's 8 × 8 digits.

https://flax.readthedocs.io/en/latest/mnist_tutorial.html
"""

from functools import partial

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

images, labels = load_digits(return_X_y=True)
images = np.asarray(images / 16, np.float32).reshape(-1, 8, 8, 1)
labels = np.asarray(labels, np.int32)
NUM_TRAIN, BATCH_SIZE = 1400, 32


class CNN(nnx.Module):
    """Two convolutions with pooling, then two linear layers."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(1, 8, kernel_size=(3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(8, 16, kernel_size=(3, 3), rngs=rngs)
        self.avg_pool = partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))
        self.linear1 = nnx.Linear(64, 32, rngs=rngs)
        self.linear2 = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x):
        x = self.avg_pool(nnx.relu(self.conv1(x)))
        x = self.avg_pool(nnx.relu(self.conv2(x)))
        x = x.reshape(x.shape[0], -1)
        return self.linear2(nnx.relu(self.linear1(x)))


graph = nnx.split(nnx.eval_shape(lambda: CNN(rngs=nnx.Rngs(0))))[0]


def init(key):
    return nnx.split(CNN(rngs=nnx.Rngs(key)))[1]


def loss(params, batch, key):
    logits = nnx.merge(graph, params)(batch["image"])
    return optax.softmax_cross_entropy_with_integer_labels(logits=logits, labels=batch["label"]).mean()


def batches(key):
    order = np.asarray(jax.random.permutation(key, NUM_TRAIN))
    for i in range(0, NUM_TRAIN - BATCH_SIZE + 1, BATCH_SIZE):
        rows = order[i : i + BATCH_SIZE]
        yield {"image": images[rows], "label": labels[rows]}


def held_out(key):
    return {"image": images[NUM_TRAIN:], "label": labels[NUM_TRAIN:]}


def metrics(params, batch):
    logits = nnx.merge(graph, params)(batch["image"])
    return {"error": jnp.mean(logits.argmax(axis=1) != batch["label"])}
