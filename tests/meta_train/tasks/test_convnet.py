"""What the image classifiers refuse, and what pooling looks at."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import data
from meta_train import tasks
from meta_train.tasks.convolution import convolve


@pytest.mark.parametrize("family", [tasks.convnet, tasks.resnet, tasks.vision_transformer])
def test_tables_are_refused(family):
    with pytest.raises(ValueError, match=r"this task needs images, .*, got \(120, 4\): choose another"):
        family("wrong", data.load("iris"))


def test_bad_sizes():
    with pytest.raises(ValueError, match="channels and strides go together, got 2 and 1 of them"):
        tasks.convnet("wrong", data.load("digits"), channels=(4, 4), strides=(2,))


def test_a_pooled_net_does_not_know_where_things_are(losses_of_changed_images):
    """A picture with wide margins is moved by two strides."""
    dataset = data.load("digits")
    wide = lambda x: np.pad(x, ((0, 0), (8, 8), (8, 8), (0, 0)))
    dataset = dataset._replace(train_x=wide(dataset.train_x[:4]), test_x=wide(dataset.test_x[:4]))
    moved = [lambda x: jnp.roll(x, 4, axis=2)]
    pooled, flat = (
        losses_of_changed_images(tasks.convnet("conv", dataset, channels=(3, 3), strides=(2, 1), pool=pool), moved)
        for pool in (True, False)
    )
    np.testing.assert_allclose(pooled[0], pooled[1], rtol=1e-5)
    assert abs(flat[0] - flat[1]) > 1e-3


def test_a_net_with_pooling_normalization_and_a_hidden_layer_against_numpy():
    """The layers in their order: convolution, normalization, ReLU, the largest of four, and the same without space."""
    dataset = data.load("digits")
    center = lambda x: x - x.mean(axis=tuple(range(x.ndim - 1)))
    options = {"channels": (3,), "strides": (1,), "max_pool": 2, "hidden_sizes": (5,), "normalization": center}
    task = tasks.convnet("conv", dataset, **options)
    params = task.init(jax.random.key(0), ())
    kernel, hidden, output = params["conv2_d"]["w"], params["linear"], params["linear_1"]
    assert hidden["w"].shape == (4 * 4 * 3, 5) and output["w"].shape == (5, 10)

    relu = lambda x: np.maximum(center(np.asarray(x, np.float64)), 0.0)
    x, y = dataset.test_x[:2000], dataset.test_y[:2000]
    maps = relu(convolve(jnp.asarray(x), kernel))
    pooled = np.max([maps[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=0)
    logits = relu(pooled.reshape(len(x), -1) @ hidden["w"]) @ output["w"]
    expected = np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(x)), y])
    have = task.evaluate(params, jax.random.key(1), task.data, ())["loss"]
    np.testing.assert_allclose(have, expected, rtol=1e-5)


def test_pooling_needs_sides_that_it_divides():
    task = tasks.convnet("conv", data.load("digits"), channels=(2,), strides=(1,), max_pool=3)
    with pytest.raises(ValueError, match="max_pool must divide the sides of what it pools, got 3 for 8×8 places"):
        task.init(jax.random.key(0), ())
