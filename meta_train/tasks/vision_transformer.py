"""Small vision transformers.

Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words", https://arxiv.org/abs/2010.11929

Deviation: the mean over the patches is classified, instead of a token of its own.
"""

import haiku as hk

from meta_train.data import Dataset
from meta_train.data import num_classes
from meta_train.tasks.attention import positions
from meta_train.tasks.attention import transformer
from meta_train.tasks.base import Task
from meta_train.tasks.convnet import check_images
from meta_train.tasks.prediction import classification
from meta_train.tasks.variation import FIXED
from meta_train.tasks.variation import Variation


def vision_transformer(
    name: str,
    dataset: Dataset,
    *,
    patch_size: int = 2,
    width: int = 16,
    num_layers: int = 1,
    num_heads: int = 2,
    batch_size: int = 32,
    variation: Variation = FIXED,
) -> Task:
    """Builds the task of classifying images with a transformer over patches. See `classification`.

    Args:
      name: the task's name.
      dataset: images, float32[…, height, width, channels].
      patch_size: height and width of a patch, a divisor of the image's.
      width: of the embeddings.
      num_layers, num_heads: see `attention.transformer`.
      batch_size: examples a step.
      variation: what each episode draws anew.

    Raises:
      ValueError: if the data set has no images, or patches do not cover them.

    Example:
      >>> from meta_train import data
      >>> vision_transformer("digits-vit", data.load("digits"), patch_size=4).name
      'digits-vit'
    """
    check_images(dataset)
    _, rows, columns, _ = dataset.train_x.shape
    if rows % patch_size or columns % patch_size:
        raise ValueError(f"patch_size must divide the images' height and width, got {patch_size} for {rows}×{columns}.")
    classes = num_classes(dataset)

    def network(x):
        batch, _, _, channels = x.shape
        x = x.reshape(batch, rows // patch_size, patch_size, columns // patch_size, patch_size, channels)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, patch_size * patch_size * channels)
        x = hk.Linear(width)(x) + positions(x.shape[1], width)
        x = transformer(x, num_layers=num_layers, num_heads=num_heads, causal=False)
        return hk.Linear(classes)(x.mean(axis=1))

    return classification(name, dataset, network, batch_size=batch_size, variation=variation)
