"""What the image classifiers refuse, and what pooling and patches look at."""

import jax
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
    with pytest.raises(ValueError, match="patch_size must divide the images' height and width, got 3 for 8×8"):
        tasks.vision_transformer("wrong", data.load("digits"), patch_size=3)


def _losses(task, changes):
    """Held-out losses of one image as it is, and changed."""
    params = task.init(jax.random.key(0), ())
    keys = iter(jax.random.split(jax.random.key(1), 100))
    params = jax.tree.map(lambda p: p + 0.3 * jax.random.normal(next(keys), p.shape), params)
    image = task.data.test_x[:1]
    loss = jax.jit(
        lambda x: task.evaluate(params, None, task.data._replace(test_x=x, test_y=task.data.test_y[:1]), ())["loss"]
    )
    return [float(loss(change(image))) for change in (lambda x: x, *changes)]


def test_a_pooled_net_does_not_know_where_things_are():
    """A picture with wide margins is moved by two strides."""
    dataset = data.load("digits")
    wide = lambda x: np.pad(x, ((0, 0), (8, 8), (8, 8), (0, 0)))
    dataset = dataset._replace(train_x=wide(dataset.train_x[:4]), test_x=wide(dataset.test_x[:4]))
    moved = [lambda x: jnp.roll(x, 4, axis=2)]
    pooled, flat = (
        _losses(tasks.convnet("conv", dataset, channels=(3, 3), strides=(2, 1), pool=pool), moved)
        for pool in (True, False)
    )
    np.testing.assert_allclose(pooled[0], pooled[1], rtol=1e-5)
    assert abs(flat[0] - flat[1]) > 1e-3


def test_a_vision_transformer_sees_all_patches_and_their_places():
    task = tasks.vision_transformer("vit", data.load("digits"), patch_size=4, width=8)
    base, swapped, *blanked = _losses(
        task,
        [
            lambda x: jnp.concatenate([x[:, 4:], x[:, :4]], axis=1),
            *[lambda x, i=i, j=j: jnp.asarray(x).at[:, i : i + 4, j : j + 4].add(1.0) for i in (0, 4) for j in (0, 4)],
        ],
    )
    assert abs(base - swapped) > 1e-3
    assert all(abs(base - loss) > 1e-3 for loss in blanked)
