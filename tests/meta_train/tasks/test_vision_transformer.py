"""Patches: their size, and that all of them and their places count."""

import jax.numpy as jnp
import pytest

from meta_train import data
from meta_train import tasks


def test_bad_sizes():
    with pytest.raises(ValueError, match="patch_size must divide the images' height and width, got 3 for 8×8"):
        tasks.vision_transformer("wrong", data.load("digits"), patch_size=3)


def test_it_sees_all_patches_and_their_places(losses_of_changed_images):
    task = tasks.vision_transformer("vit", data.load("digits"), patch_size=4, width=8)
    base, swapped, *blanked = losses_of_changed_images(
        task,
        [
            lambda x: jnp.concatenate([x[:, 4:], x[:, :4]], axis=1),
            *[lambda x, i=i, j=j: jnp.asarray(x).at[:, i : i + 4, j : j + 4].add(1.0) for i in (0, 4) for j in (0, 4)],
        ],
    )
    assert abs(base - swapped) > 1e-3
    assert all(abs(base - loss) > 1e-3 for loss in blanked)
