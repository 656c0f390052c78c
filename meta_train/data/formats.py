"""Readers of the file formats that hold data sets: idx, npz and text; `data_csv` reads tables.

Every file that is not what it should be is a ValueError that names it. A file whose name ends in `.gz` is unpacked.
"""

from __future__ import annotations

import gzip
import io
import lzma
import math
from pathlib import Path
import struct
from typing import TYPE_CHECKING
import zipfile
import zlib

import numpy as np

from meta_train.data.parts import Parts
from meta_train.data.parts import split

if TYPE_CHECKING:
    from jaxtyping import UInt8

# Type code of an idx file -> dtype. Numbers are big-endian.
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

# The keys of an npz file: those of this library, then those of Keras. Without a held-out part: x and y.
_NPZ_KEYS = (("train_x", "train_y", "test_x", "test_y"), ("x_train", "y_train", "x_test", "y_test"), ("x", "y"))

_ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError)


def read_idx(path: Path) -> np.ndarray:
    """Reads an array from a file in the format of MNIST.

    Two zero bytes, one byte for the type of the numbers, one for how many dimensions there are (1 to 4), their lengths
    as big-endian uint32, the numbers.

    Returns:
      The array, in the byte order of the machine.

    Raises:
      ValueError: if the file is not of this format, is cut short, has bytes left over, or holds no number.

    References:
      LeCun, Cortes and Burges, The MNIST database of handwritten digits, http://yann.lecun.com/exdb/mnist/
    """
    content = _read_bytes(path)
    if len(content) < 4:
        raise ValueError(f"{path}: an idx file starts with 4 bytes, this one has {len(content)} in all.")
    zeros, code, rank = struct.unpack(">HBB", content[:4])
    if zeros != 0:
        raise ValueError(f"{path}: an idx file starts with two zero bytes, got {content[:2].hex()}.")
    if code not in _IDX_TYPES:
        known = ", ".join(f"0x{known:02x}" for known in _IDX_TYPES)
        raise ValueError(f"{path}: the type code of an idx file is one of {known}, got 0x{code:02x}.")
    if not 1 <= rank <= 4:
        raise ValueError(f"{path}: expected 1 to 4 dimensions, got {rank}.")
    begin = 4 + 4 * rank
    if len(content) < begin:
        raise ValueError(f"{path}: the header for {rank} dimensions has {begin} bytes, the file {len(content)}.")
    shape = struct.unpack(f">{rank}I", content[4:begin])
    dtype = np.dtype(_IDX_TYPES[code])
    length = math.prod(shape) * dtype.itemsize
    if length != len(content) - begin or length == 0:
        raise ValueError(
            f"{path}: the header promises {shape} numbers of {dtype.itemsize} bytes, at least one, which makes "
            f"{length} bytes; {len(content) - begin} follow."
        )
    return np.frombuffer(content, dtype, offset=begin).reshape(shape).astype(dtype.newbyteorder("="))


def read_idx_pair(
    images_path: Path, labels_path: Path
) -> tuple[UInt8[np.ndarray, "num height width *channels"], UInt8[np.ndarray, " num"]]:
    """Reads pictures and their labels from two idx files.

    Returns:
      The pictures, with an axis of channels or without, and the labels.

    Raises:
      ValueError: if a file is damaged, has another shape or type, or their lengths differ.
    """
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim not in (3, 4) or images.dtype != np.uint8:
        raise ValueError(f"{images_path}: expected pictures uint8[num, height, width], got {_describe(images)}.")
    if labels.ndim != 1 or labels.dtype != np.uint8:
        raise ValueError(f"{labels_path}: expected labels uint8[num], got {_describe(labels)}.")
    if len(images) != len(labels):
        raise ValueError(f"{images_path} has {len(images)} pictures and {labels_path} has {len(labels)} labels.")
    return images, labels


def read_npz(path: Path) -> Parts:
    """Reads both parts of a data set from a NumPy archive.

    The keys are `train_x`, `train_y`, `test_x`, `test_y`, or Keras' `x_train`, `y_train`, `x_test`, `y_test`, or `x`
    and `y` alone, which are split at random. Others are ignored. Labels may have a second axis of length 1, as in
    Keras' CIFAR-10. Pickled objects are refused.

    Raises:
      ValueError: if the file is damaged, keys are missing, the arrays do not fit each other, or a number is not finite.
    """
    content = io.BytesIO(_read_bytes(path))  # in memory, so that nothing stays open after an error
    try:
        with np.load(content, allow_pickle=False) as archive:
            present = archive.files
            keys = next((keys for keys in _NPZ_KEYS if set(keys) <= set(present)), ())
            arrays = [archive[key] for key in keys]
    except (EOFError, OSError, RuntimeError, TypeError, ValueError, *_ARCHIVE_ERRORS) as error:
        raise ValueError(f"{path}: not a NumPy archive that can be read without pickle ({error}).") from error
    if not keys:
        choices = " or ".join(", ".join(keys) for keys in _NPZ_KEYS)
        raise ValueError(f"{path}: expected the keys {choices}, got {', '.join(present) or 'none'}.")
    arrays[1::2] = [y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y for y in arrays[1::2]]
    for x, y in zip(arrays[::2], arrays[1::2], strict=True):
        if x.ndim not in (2, 3, 4) or y.ndim != 1 or len(x) != len(y):
            raise ValueError(
                f"{path}: expected x[num, columns], x[num, height, width] or x[num, height, width, channels], and "
                f"y[num], got {_describe(x)} and {_describe(y)}."
            )
        if x.dtype.kind not in "uif" or y.dtype.kind not in "uif":
            raise ValueError(f"{path}: expected numbers, got {x.dtype} and {y.dtype}.")
    for key, array in zip(keys, arrays, strict=True):
        _check_finite(path, key, array)
    if len(arrays) == 2:
        return split(*arrays)
    if arrays[0].shape[1:] != arrays[2].shape[1:]:
        shapes = f"{_describe(arrays[0])} and {_describe(arrays[2])}"
        raise ValueError(f"{path}: training and held-out examples must be of one shape, got {shapes}.")
    return Parts(*arrays)


def read_text(path: Path) -> str:
    """Reads a file of UTF-8 text.

    Raises:
      ValueError: if it is empty or not UTF-8.
    """
    try:
        text = _read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text: {error}. Convert it, or give it another name.") from error
    if not text.strip():
        raise ValueError(f"{path}: the file is empty.")
    return text


def _read_bytes(path):
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        return gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: the gzip file is cut short or damaged ({error}). Fetch it again.") from error


def _check_finite(path, key, array):
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        place, value = ", ".join(map(str, wrong[0])), array[tuple(wrong[0])]
        raise ValueError(f"{path}: expected finite numbers, got NaN or infinity: {key}[{place}] is {value}.")


def _describe(array):
    return f"{array.dtype}{list(array.shape)}"
