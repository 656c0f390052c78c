"""Pictures as float32 in 0…1, reduced by area averaging and turned gray on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float32
    from jaxtyping import Num

# Luma of ITU-R Recommendation BT.601: the weights of red, green and blue.
_LUMA = np.array([[0.299], [0.587], [0.114]])

_CHUNK = 1 << 21  # numbers converted at a time, so that float64 copies stay small


def prepare(
    images: Num[np.ndarray, "num _ _ ..."], *, size: int | None = None, gray: bool = False
) -> Float32[np.ndarray, "num height width channels"]:
    """Scales pictures to 0…1, turns them gray, and averages areas down to size×size.

    Args:
      images: uint8 (0…255) or float (0…1), [num, height, width] or [num, height, width, channels]; also [num, channels,
        height, width], see `channels_last`.
      size: new height and width; None keeps them.
      gray: one channel, luma 0.299 R + 0.587 G + 0.114 B, from three. Pictures with one channel stay as they are.

    Raises:
      ValueError: if the numbers are of another type or range, if size is not in 1…height and 1…width, if pictures to be
        turned gray have neither one nor three channels, or if the channels seem to be on another axis than the last.

    Example:
      >>> import numpy as np
      >>> prepare(np.array([[[0, 255], [255, 255]]], np.uint8), size=1)[0, 0, 0, 0].item()
      0.75
    """
    images = channels_last(images) if images.ndim == 4 else images[..., None]
    height, width, channels = images.shape[1:]
    if gray and channels not in (1, 3):
        raise ValueError(f"gray=True needs pictures with 1 or 3 channels, got {channels}.")
    if size is not None and not (isinstance(size, int) and 1 <= size <= min(height, width)):
        raise ValueError(f"size must be an int in 1…{min(height, width)} for pictures of {height}×{width}, got {size}.")
    scale = 255.0 if images.dtype == np.uint8 else 1.0
    if images.dtype != np.uint8 and not (images.dtype.kind == "f" and images.min() >= 0 and images.max() <= 1):
        raise ValueError(
            f"pictures must be uint8 or floats in 0…1, got {images.dtype} in {images.min()}…{images.max()}."
        )
    gray = gray and channels == 3
    result = np.empty((len(images), size or height, size or width, 1 if gray else channels), np.float32)
    rows = max(1, _CHUNK // (height * width * channels))
    for begin in range(0, len(images), rows):
        chunk = images[begin : begin + rows].astype(np.float64) / scale
        chunk = chunk @ _LUMA if gray else chunk
        result[begin : begin + rows] = chunk if size is None else _shrink(chunk, size)
    return result


def channels_last(images: Num[np.ndarray, "num _ _ _"]) -> Num[np.ndarray, "num height width channels"]:
    """Pictures [num, height, width, channels], from these or from [num, channels, height, width].

    The channel axis has 1 entry (gray) or 3 (color). If this is true of both the second and the last axis, or of
    neither, the last one holds the channels.

    Raises:
      ValueError: if neither axis has one or three entries, and only channels on the second axis would make the pictures
        square.

    Example:
      >>> import numpy as np
      >>> channels_last(np.zeros((7, 3, 32, 24))).shape
      (7, 32, 24, 3)
    """
    _, first, middle, last = images.shape
    if last in (1, 3):
        return images
    if first in (1, 3):
        return np.moveaxis(images, 1, -1)
    if first < middle == last:
        raise ValueError(
            f"channels must be the last axis of pictures, got the shape {images.shape}, which seems to have {first} "
            "channels on the second axis: turn the array by np.moveaxis(x, 1, -1)."
        )
    return images


def _shrink(images, size):
    """[num, height, width, channels] -> [num, size, size, channels], the mean over each cell of a size×size grid."""
    num, height, width, channels = images.shape
    flat = _overlaps(height, size) @ images.reshape(num, height, width * channels)  # [num, size, width * channels]
    return _overlaps(width, size) @ flat.reshape(num, size, width, channels)


def _overlaps(length, size):
    """float64[size, length]: the share of each of `length` pixels in each of `size` equal intervals; rows sum to 1."""
    edges = np.arange(size + 1) * length / size
    pixels = np.arange(length)
    low, high = np.maximum(edges[:-1, None], pixels), np.minimum(edges[1:, None], pixels + 1)
    return np.maximum(high - low, 0.0) * size / length
