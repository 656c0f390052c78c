"""Readers of the file formats that hold data sets: idx, npz, csv and text.

Every file that is not what it should be is a ValueError that names it. A file whose name ends in `.gz` is unpacked.
"""

import csv
import gzip
import io
import lzma
import math
from pathlib import Path
import re
import struct
import zipfile
import zlib

import numpy as np

from meta_train.data_parts import Parts
from meta_train.data_parts import split

# Type code of an idx file -> dtype. Numbers are big-endian.
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

# The keys of an npz file: those of this library, then those of Keras. Without a held-out part: x and y.
_NPZ_KEYS = (("train_x", "train_y", "test_x", "test_y"), ("x_train", "y_train", "x_test", "y_test"), ("x", "y"))

_ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError)

_MAX_INTEGER_CLASSES = 20  # a csv target with more different integers than these is a quantity, not a label


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


def read_idx_pair(images_path: Path, labels_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads pictures and their labels from two idx files.

    Returns:
      The pictures uint8[num, height, width] or uint8[num, height, width, channels], and the labels uint8[num].

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
      ValueError: if the file is damaged, keys are missing, or the arrays do not fit each other.
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
    if len(arrays) == 2:
        return split(*arrays)
    if arrays[0].shape[1:] != arrays[2].shape[1:]:
        shapes = f"{_describe(arrays[0])} and {_describe(arrays[2])}"
        raise ValueError(f"{path}: training and held-out examples must be of one shape, got {shapes}.")
    return Parts(*arrays)


def read_csv(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads a table of comma-separated values in UTF-8, the target in its last column.

    The first line is a header if none of its cells but the last is a number. The target is class labels if its cells
    are text, or if they are integers written without a point, at most 20 different ones; the labels are numbered in
    sorted order. Otherwise it is numbers to predict. All other cells must be finite numbers; blank lines are skipped.

    Returns:
      x float64[num, columns], and y int64[num] labels 0…C-1 or float64[num].

    Raises:
      ValueError: if the file holds no rows, rows of different lengths, a single column, or a cell that is no number;
        line and column are counted from 1.
    """
    lines, rows = _read_cells(path)
    if len(rows[0]) < 2:
        raise ValueError(f"{path}: expected at least two columns, the last one the target, got {len(rows[0])}.")
    if all(math.isnan(_number(cell)) for cell in rows[0][:-1]):
        lines, rows = lines[1:], rows[1:]
    if not rows:
        raise ValueError(f"{path}: there is a header and no row of numbers.")
    x = _numbers(path, lines, [row[:-1] for row in rows])
    target = [row[-1].strip() for row in rows]
    if all(_is_integer(cell) for cell in target) and len({int(cell) for cell in target}) <= _MAX_INTEGER_CLASSES:
        return x, np.unique([int(cell) for cell in target], return_inverse=True)[1]
    if all(cell and math.isnan(_number(cell)) for cell in target):
        return x, np.unique(target, return_inverse=True)[1]
    return x, _numbers(path, lines, [row[-1:] for row in rows], first_column=len(rows[0]))[:, 0]


def read_mask(path: Path) -> np.ndarray:
    """Reads the first column of a csv file of zeros and ones without a header.

    Returns:
      bool[num], true where there is a one.

    Raises:
      ValueError: if the file is damaged or holds anything else.
    """
    lines, rows = _read_cells(path)
    mask = _numbers(path, lines, [row[:1] for row in rows])[:, 0]
    if not np.all((mask == 0) | (mask == 1)):
        raise ValueError(f"{path}: expected zeros and ones, got {mask[(mask != 0) & (mask != 1)][0]}.")
    return mask == 1


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


def _read_cells(path):
    """The numbers of the lines that are not blank, and their cells, as many in each."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        numbered = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise ValueError(f"{path}: line {reader.line_num} is not comma-separated values ({error}).") from error
    width = len(numbered[0][1])
    for line, row in numbered:
        if len(row) != width:
            raise ValueError(f"{path}: line {line} has {len(row)} columns and the first one {width}.")
    return [line for line, _ in numbered], [row for _, row in numbered]


def _numbers(path, lines, rows, first_column=1):
    """Cells as float64[rows, columns]."""
    values = np.array([[_number(cell) for cell in row] for row in rows])
    wrong = np.argwhere(np.isnan(values))
    if len(wrong):
        row, column = wrong[0]
        raise ValueError(
            f"{path}: line {lines[row]}, column {first_column + column}: expected a finite number, got "
            f"{rows[row][column]!r}."
        )
    return values


def _number(cell):
    """The finite number that the cell spells, or NaN."""
    try:
        number = float(cell)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) and "_" not in cell else math.nan


def _is_integer(cell):
    return re.fullmatch(r"-?[0-9]{1,18}", cell) is not None


def _describe(array):
    return f"{array.dtype}{list(array.shape)}"
