"""Data sets as arrays in memory: `load` finds one by name.

Its sources, in this order: what scikit-learn bundles (`embedded`), files in a folder (`data_folder` says which), and
tensorflow-datasets. The folder is the argument `data_dir` or the environment variable LEARNED_OPTIM_DATA.
"""

import functools
import os
from typing import Literal
from typing import NamedTuple
from typing import TypeAlias
from typing import overload

import numpy as np

from learned_optim import nearest
from meta_train.data import bundled
from meta_train.data import data_folder
from meta_train.data import labels as data_labels
from meta_train.data import missing as data_missing
from meta_train.data import pictures as data_pictures
from meta_train.data import tfds
from meta_train.host.renamed import renamed_argument

DATA_DIR_VARIABLE = data_folder.DATA_DIR_VARIABLE


class Dataset(NamedTuple):
    """A data set of examples. The arrays cannot be written to: equal calls of `load` share them."""

    train_x: np.ndarray  # pictures float32[num_train, height, width, channels] in 0…1, or float32[num_train, columns]
    train_y: np.ndarray  # labels int32[num_train], 0 … num_classes - 1, or standardized targets float32[num_train]
    test_x: np.ndarray  # held out; likewise, with num_test
    test_y: np.ndarray


class Text(NamedTuple):
    """A text, a token for each character. The arrays cannot be written to: equal calls of `load` share them."""

    train: np.ndarray  # int32[num_train]: tokens, places in the vocabulary
    test: np.ndarray  # int32[num_test]: the last tenth of the text, rounded down
    vocabulary: tuple[str, ...]  # the characters of the whole text, sorted


# For type checkers: what `load` returns for names that are well known. Files of such a name could hold something else.
_DatasetName: TypeAlias = Literal[
    "breast_cancer",
    "cifar10",
    "cifar2k",
    "diabetes",
    "digits",
    "fashion_mnist",
    "iris",
    "kmnist",
    "mnist",
    "photos",
    "svhn_cropped",
    "wine",
]
_TextName: TypeAlias = Literal["sklearn_docs", "tiny_shakespeare"]


@overload
def load(
    name: _DatasetName, *, size: int | None = None, gray: bool = False, data_dir: str | os.PathLike[str] | None = None
) -> Dataset: ...


@overload
def load(
    name: _TextName, *, size: int | None = None, gray: bool = False, data_dir: str | os.PathLike[str] | None = None
) -> Text: ...


@overload
def load(
    name: str, *, size: int | None = None, gray: bool = False, data_dir: str | os.PathLike[str] | None = None
) -> Dataset | Text: ...


@renamed_argument("grey", "gray")
def load(
    name: str, *, size: int | None = None, gray: bool = False, data_dir: str | os.PathLike[str] | None = None
) -> Dataset | Text:
    """Loads a data set by name.

    Columns of tables and targets to predict are standardized by mean and standard deviation of the training part; a
    column that is constant there becomes 0. Equal calls return the very same arrays.

    Args:
      name: one of `embedded()`, or the name of files in the folder, or of a set of tensorflow-datasets.
      size: height and width to which pictures are reduced, by averaging areas; None keeps their size.
      gray: turns pictures gray, with the luma weights of Rec. 601.
      data_dir: folder of data sets; by default what LEARNED_OPTIM_DATA names.

    Returns:
      A `Dataset` of pictures or of a table, or a `Text`.

    Raises:
      ValueError: if nothing knows the name, a file is damaged, or size or gray do not fit the data.
      FileNotFoundError: if the name is known but the data are missing, or the folder does not exist.

    Example:
      >>> load("digits").train_x.shape, load("digits", size=4).train_x.shape
      ((1437, 8, 8, 1), (1437, 4, 4, 1))
    """
    return _load(name, size, gray, None if name in embedded() else data_folder.chosen(data_dir))


def available(name: str, data_dir: str | os.PathLike[str] | None = None) -> str | None:
    """Where `load` would take the data set from, without reading or downloading it.

    Args:
      name: the data set's name.
      data_dir: folder of data sets, as for `load`.

    Returns:
      "scikit-learn", "folder", "tensorflow-datasets" if it is in a cache on disk already, or None.

    Raises:
      ValueError: if only some of the files are there, or it is not clear which ones are meant.
      FileNotFoundError: if the folder does not exist.

    Example:
      >>> available("iris")
      'scikit-learn'
    """
    if name in embedded():
        return "scikit-learn"
    folder = data_folder.chosen(data_dir)
    if folder and data_folder.find(folder, name):
        return "folder"
    return "tensorflow-datasets" if tfds.at_hand(name) else None


def embedded() -> tuple[str, ...]:
    """The data sets that need no files, because scikit-learn bundles them.

    Example:
      >>> ", ".join(embedded())
      'breast_cancer, diabetes, digits, iris, photos, sklearn_docs, wine'
    """
    return tuple(sorted(bundled.READERS))


def num_classes(dataset: Dataset) -> int:
    """The number of classes among the labels.

    Raises:
      ValueError: if the data set has targets to predict instead of labels, or labels that are no numbers of classes.

    Example:
      >>> num_classes(load("wine"))
      3
    """
    if dataset.train_y.dtype.kind != "i":
        raise ValueError(f"expected integer labels, got targets to predict of {dataset.train_y.dtype}: no classes.")
    low = int(min(dataset.train_y.min(), dataset.test_y.min()))
    high = int(max(dataset.train_y.max(), dataset.test_y.max()))
    if low < 0 or high >= data_labels.LIMIT:
        raise ValueError(f"labels must be the classes' numbers 0, 1, … below {data_labels.LIMIT:,}, got {low}…{high}.")
    return high + 1


@functools.cache
def _load(name, size, gray, folder):
    raw, where = _read(name, folder)
    if isinstance(raw, str):
        if size is not None or gray:
            raise ValueError(f"size and gray are for pictures; {name!r} is a text.")
        result = _tokenize(name, raw)
    else:
        result = _prepare(where, raw, size, gray)
    for array in result:
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    return result


def _read(name, folder):
    """The data in the units of their source, from the first source that has them, and what error messages call them."""
    if name in embedded():
        return bundled.read(name), repr(name)
    paths = data_folder.find(folder, name) if folder else ()
    if paths:
        return data_folder.read(paths), str(paths[0] if len(paths) == 1 else paths[0].parent)
    try:
        raw = tfds.read(name)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}\n{data_missing.ways(name, folder)}") from error
    if raw is not None:
        return raw, f"{name!r} of tensorflow-datasets"
    known = {*embedded(), *data_missing.KNOWN}
    if name in known:
        raise FileNotFoundError(f"the data set {name!r} is not at hand.\n{data_missing.ways(name, folder)}")
    hint = f"there is no data set {name!r}. {nearest.hint(name, known)}".rstrip()
    raise ValueError(f"{hint}\n{data_missing.ways(name, folder)}")


def _prepare(where, raw, size, gray):
    """Parts in the units of their source -> Dataset; `where` is what error messages call the data."""
    num_train, num_test = len(raw.train_x), len(raw.test_x)
    if min(num_train, num_test) == 0:
        raise ValueError(f"{where} needs examples to train on and held-out ones, got {num_train} and {num_test}.")
    if raw.train_x.ndim > 2:
        try:
            train_x, test_x = (data_pictures.prepare(x, size=size, gray=gray) for x in (raw.train_x, raw.test_x))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    elif size is not None or gray:
        raise ValueError(f"size and gray are for pictures; {where} is a table.")
    else:
        train_x, test_x = _standardize(where, raw.train_x, raw.test_x)
    if (raw.train_y.dtype.kind == "f") != (raw.test_y.dtype.kind == "f"):
        raise ValueError(
            f"{where}: the targets of both parts must be labels, or numbers to predict, got {raw.train_y.dtype} and "
            f"{raw.test_y.dtype}."
        )
    prepare = data_labels.number if data_labels.are_labels(raw.train_y, raw.test_y) else _standardize
    train_y, test_y = prepare(where, raw.train_y, raw.test_y)
    return Dataset(train_x, train_y, test_x, test_y)


def _standardize(where, train, test):
    """Both parts as float32, with the training part's mean and standard deviation taken out; 0 if it is constant."""
    train, test = train.astype(np.float64), test.astype(np.float64)
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise ValueError(f"{where}: expected finite numbers, got NaN or infinity.")
    with np.errstate(over="ignore", invalid="ignore"):
        std = train.std(axis=0)
        scale = np.where(np.ptp(train, axis=0) == 0, np.inf, std)
        parts = [((part - train.mean(axis=0)) / scale).astype(np.float32) for part in (train, test)]
    if not all(np.isfinite(array).all() for array in (std, *parts)):
        raise ValueError(f"{where}: expected numbers whose squares and ratios are finite, got some that are too large.")
    return parts


def _tokenize(name, text):
    """A text -> Text."""
    codes, tokens = np.unique(np.frombuffer(text.encode("utf-32-le"), "<u4"), return_inverse=True)
    num_train = len(tokens) - len(tokens) // 10
    if num_train == len(tokens):
        raise ValueError(f"{name!r}: a text needs at least 10 characters, got {len(tokens)}.")
    train, test = np.split(tokens.astype(np.int32), [num_train])
    return Text(train, test, tuple(chr(code) for code in codes))
