"""What the image classifiers refuse, and what pooling looks at."""

import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import data
from meta_train import tasks


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
