"""Residual nets that classify images.

He et al. 2015, "Deep Residual Learning for Image Recognition", https://arxiv.org/abs/1512.03385

Deviations: normalization over the channels of a place instead of over the batch (a batch norm's running means are no
parameters that an optimizer trains), before the convolutions, so that the residual path stays clear.
"""

import haiku as hk
import jax

from meta_train.data import Dataset
from meta_train.data import num_classes
from meta_train.tasks.attention import layer_norm
from meta_train.tasks.base import Task
from meta_train.tasks.convnet import check_images
from meta_train.tasks.convolution import Conv2D
from meta_train.tasks.prediction import classification
from meta_train.tasks.variation import FIXED
from meta_train.tasks.variation import Variation


def resnet(
    name: str,
    dataset: Dataset,
    *,
    channels: int = 8,
    num_blocks: int = 2,
    batch_size: int = 64,
    variation: Variation = FIXED,
) -> Task:
    """Builds the task of classifying with a residual net: a strided convolution, blocks of two, and a linear layer.

    Args:
      name: the task's name.
      dataset: images, float32[…, height, width, channels].
      channels: of every convolution.
      num_blocks: residual blocks of two 3×3 convolutions.
      batch_size: examples a step.
      variation: what each episode draws anew.

    Raises:
      ValueError: if the data set has no images.

    Example:
      >>> from meta_train import data
      >>> resnet("digits-resnet", data.load("digits"), num_blocks=1).name
      'digits-resnet'
    """
    check_images(dataset)
    classes = num_classes(dataset)

    def network(x):
        x = Conv2D(channels, stride=2)(x)
        for _ in range(num_blocks):
            change = Conv2D(channels)(jax.nn.relu(layer_norm(x)))
            x = x + Conv2D(channels)(jax.nn.relu(layer_norm(change)))
        return hk.Linear(classes)(jax.nn.relu(layer_norm(x)).mean(axis=(1, 2)))

    return classification(name, dataset, network, batch_size=batch_size, variation=variation)
