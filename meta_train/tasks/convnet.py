"""Convolutional nets that classify images."""

from collections.abc import Callable
from collections.abc import Sequence
import functools

import haiku as hk
import jax
import jax.numpy as jnp

from meta_train.data import Dataset
from meta_train.data import num_classes
from meta_train.tasks.base import Task
from meta_train.tasks.convolution import Conv2D
from meta_train.tasks.prediction import classification
from meta_train.tasks.variation import FIXED
from meta_train.tasks.variation import Variation


def convnet(
    name: str,
    dataset: Dataset,
    *,
    channels: Sequence[int] = (8, 16),
    strides: Sequence[int] = (2, 2),
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
    pool: bool = False,
    normalization: Callable[[jax.Array], jax.Array] | None = None,
    max_pool: int = 1,
    hidden_sizes: Sequence[int] = (),
    batch_size: int = 64,
    variation: Variation = FIXED,
) -> Task:
    """Builds the task of classifying with 3×3 convolutions and fully connected layers. See `classification`.

    Args:
      name: the task's name.
      dataset: images, float32[…, height, width, channels].
      channels: of the convolutions' outputs.
      strides: of the convolutions.
      activation: after each convolution, and of the hidden layers.
      pool: whether the fully connected layers see the mean over the image, or else all places.
      normalization: applied before each activation, such as `batch_norm.batch_norm`; None: nothing.
      max_pool: after each activation, squares of so many pixels a side become their maximum; 1: no pooling. The
        pictures' sides must be divisible by it as often as there are convolutions.
      hidden_sizes: units of fully connected layers between the convolutions and the output.
      batch_size: examples a step.
      variation: what each episode draws anew.

    Raises:
      ValueError: if there are not as many strides as channels, a side is not divisible by `max_pool`, or the data set
        has no images.

    Example:
      >>> from meta_train import data
      >>> convnet("digits-conv", data.load("digits"), channels=(4,), strides=(2,)).name
      'digits-conv'
    """
    check_images(dataset)
    if len(channels) != len(strides):
        raise ValueError(f"channels and strides go together, got {len(channels)} and {len(strides)} of them.")
    classes = num_classes(dataset)
    after = activation if normalization is None else lambda x: activation(normalization(x))

    def network(x):
        for size, stride in zip(channels, strides, strict=True):
            x = _largest(after(Conv2D(size, stride=stride)(x)), max_pool)
        x = x.mean(axis=(1, 2)) if pool else hk.Flatten()(x)
        for size in hidden_sizes:
            x = after(hk.Linear(size)(x))
        return hk.Linear(classes)(x)

    return classification(name, dataset, network, batch_size=batch_size, variation=variation)


def _largest(x, size):
    """The maximum of each square of `size` pixels a side. Its derivative is much faster than that of a window's."""
    _, height, width, _ = x.shape
    if height % size or width % size:
        raise ValueError(f"max_pool must divide the sides of what it pools, got {size} for {height}×{width} places.")
    x = functools.reduce(jnp.maximum, [x[:, i::size] for i in range(size)])
    return functools.reduce(jnp.maximum, [x[:, :, i::size] for i in range(size)])


def check_images(dataset: Dataset) -> None:
    """Raises ValueError unless the inputs are images."""
    if dataset.train_x.ndim != 4:
        raise ValueError(
            f"this task needs images, float32[examples, height, width, channels], got {dataset.train_x.shape}: "
            "choose another data set."
        )
