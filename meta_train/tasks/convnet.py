"""Convolutional nets that classify images."""

from collections.abc import Callable
from collections.abc import Sequence

import haiku as hk
import jax

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
    batch_size: int = 64,
    variation: Variation = FIXED,
) -> Task:
    """Builds the task of classifying with 3×3 convolutions and a linear layer. See `classification`.

    Args:
      name: the task's name.
      dataset: images, float32[…, height, width, channels].
      channels: of the convolutions' outputs.
      strides: of the convolutions.
      activation: after each convolution.
      pool: whether the linear layer sees the mean over the image, or else all places.
      batch_size: examples a step.
      variation: what each episode draws anew.

    Raises:
      ValueError: if there are not as many strides as channels, or the data set has no images.

    Example:
      >>> from meta_train import data
      >>> convnet("digits-conv", data.load("digits"), channels=(4,), strides=(2,)).name
      'digits-conv'
    """
    check_images(dataset)
    if len(channels) != len(strides):
        raise ValueError(f"channels and strides go together, got {len(channels)} and {len(strides)} of them.")
    classes = num_classes(dataset)

    def network(x):
        for size, stride in zip(channels, strides, strict=True):
            x = activation(Conv2D(size, stride=stride)(x))
        return hk.Linear(classes)(x.mean(axis=(1, 2)) if pool else hk.Flatten()(x))

    return classification(name, dataset, network, batch_size=batch_size, variation=variation)


def check_images(dataset: Dataset) -> None:
    """Raises ValueError unless the inputs are images."""
    if dataset.train_x.ndim != 4:
        raise ValueError(
            f"this task needs images, float32[examples, height, width, channels], got {dataset.train_x.shape}: "
            "choose another data set."
        )
