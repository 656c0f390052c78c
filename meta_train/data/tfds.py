"""Data sets of tensorflow-datasets, read once and kept as files in the cache folder.

The first read of a set downloads and prepares it, for which tensorflow-datasets needs TensorFlow. Sets that it has
prepared as ArrayRecord files are read without TensorFlow, and sets in the cache folder without tensorflow-datasets.

References:
  TensorFlow Datasets, a collection of ready-to-use datasets, https://www.tensorflow.org/datasets
"""

from collections.abc import Iterator
import importlib.util
import os
from pathlib import Path
import re
from typing import Any
from typing import Protocol
import zipfile

import numpy as np

from meta_train.data import data_folder
from meta_train.data.parts import Parts
from meta_train.data.parts import split
from meta_train.host import cache_folder

# Sets that are often used. TensorFlow is needed to prepare them. Other sets of labeled pictures or of text work, too.
NAMES = ("cifar10", "fashion_mnist", "kmnist", "mnist", "svhn_cropped", "tiny_shakespeare")
_BY_EXAMPLE = ("omniglot",)  # likewise, but too large to be read by `read`


class ConvertFn(Protocol):
    """Makes arrays of a data set's examples."""

    def __call__(self, info: Any, examples: dict[str, Iterator[dict[str, Any]]], /) -> dict[str, np.ndarray]:
        """Makes them.

        Args:
          info: tensorflow-datasets' `DatasetInfo`.
          examples: the examples of each split, dictionaries of NumPy arrays.

        Returns:
          The arrays by name.
        """
        ...


def at_hand(name: str) -> bool:
    """Whether the data set is in the cache folder, or has been prepared by tensorflow-datasets, which is installed."""
    if cached(name):
        return True
    folder = _prepared_folder()
    if folder is None:
        return False
    folder = folder / name
    infos = [*folder.glob("*/dataset_info.json"), *folder.glob("*/*/dataset_info.json")]  # VERSION/ or CONFIG/VERSION/
    return bool(infos) and installed()


def installed() -> bool:
    """Whether tensorflow-datasets can be imported."""
    return _importable("tensorflow_datasets")


def cached(name: str) -> Path | None:
    """The file in the cache folder that holds the newest version of the data set, or None."""
    found = []
    folder = _cache_folder()
    for path in folder.glob("*") if os.path.isdir(folder) else ():
        match = re.fullmatch(re.escape(_slug(name)) + r"-(\d+)\.(\d+)\.(\d+)\.(npz|txt)", path.name)
        if match:
            found.append((tuple(int(number) for number in match.groups()[:3]), path))
    return max(found)[1] if found else None


def read(name: str) -> Parts | str | None:
    """Reads a data set from the cache folder, or else by tensorflow-datasets, and puts it there.

    The parts are the splits `train` and `test`, or `validation` for lack of `test`, or a random one for lack of both.
    Texts are joined: examples by a line break, splits by nothing. A damaged file in the cache folder is replaced.

    Returns:
      The data, or None if tensorflow-datasets is not installed or knows no set of that name.

    Raises:
      FileNotFoundError: if it knows the set but cannot download, prepare or read it, or if the set is in the cache
        folder, damaged, and cannot be fetched again.
      ValueError: if the set has neither text nor pictures (or vectors) of one size with a label.
    """
    damage, path = None, cached(name)
    if path:
        try:
            return data_folder.read((path,))
        except (OSError, ValueError) as error:
            damage = error
    raw = _fetch(name) if installed() else None
    if raw is None and damage:
        state = "knows no such set" if installed() else "is not installed"
        raise FileNotFoundError(f"what was kept of {name!r} is damaged, and tensorflow-datasets {state}: {damage}")
    return raw


def read_examples(name: str, kept_as: str, convert: ConvertFn) -> dict[str, np.ndarray] | None:
    """Reads a set one example at a time, for sets that memory may not hold as they come, and keeps what is made of it.

    Args:
      name: the data set's name.
      kept_as: what to call the file in the cache folder.
      convert: `(info, examples) -> arrays`.

    Returns:
      The arrays, or None if they are not in the cache folder, and tensorflow-datasets is not installed or knows no set
      of that name. A damaged file in the cache folder is replaced.

    Raises:
      FileNotFoundError: if it knows the set but cannot download, prepare or read it.
    """
    path = cached(kept_as)
    if path:
        try:
            with np.load(path) as arrays:
                return dict(arrays)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            pass  # fetched again
    builder = _builder(name) if installed() else None
    if builder is None:
        return None
    arrays = _prepared(name, builder, lambda examples: convert(builder.info, examples))
    cache_folder.put(_cache_folder() / f"{kept_as}-{builder.version}.npz", lambda file: np.savez(file, **arrays))
    return arrays


def _fetch(name):
    """Reads a data set by tensorflow-datasets and puts it into the cache folder; None if there is no such set."""
    builder = _builder(name)
    if builder is None:
        return None
    examples = _prepared(name, builder, lambda examples: {part: list(rows) for part, rows in examples.items()})
    raw = _convert(name, builder.info, examples)
    _keep(f"{_slug(name)}-{builder.version}", raw)
    return raw


def _builder(name):
    """What makes the data set, or None if there is no such set, configuration or version."""
    import tensorflow_datasets as tfds  # takes seconds, and few need it

    folder = _prepared_folder()
    if folder is None:
        raise FileNotFoundError(
            f"the home folder of this user is unknown, so tensorflow-datasets has no place to prepare {name!r}: set "
            "TFDS_DATA_DIR to a folder."
        )
    try:
        return tfds.builder(name, data_dir=folder)
    except (ValueError, AssertionError):
        return None


def _prepared(name, builder, use):
    """What `use` makes of the examples of each split, a dict of iterators, once the data set has been prepared."""
    import tensorflow_datasets as tfds

    prepared = builder.is_prepared()
    if name in (*NAMES, *_BY_EXAMPLE) and not prepared and not _importable("tensorflow"):
        raise FileNotFoundError(
            f"to prepare {name!r}, tensorflow-datasets needs TensorFlow, which is not there: pip install tensorflow."
        )
    try:
        if not prepared:
            # ArrayRecord is not there on every system; the default format takes TensorFlow to read.
            builder.download_and_prepare(file_format="array_record" if _importable("array_record") else None)
        return use({part: _examples(tfds, builder, part) for part in builder.info.splits})
    except Exception as error:  # a missing network or module, a full disk, a changed checksum, …
        raise FileNotFoundError(
            f"tensorflow-datasets knows {name!r} but could not download, prepare or read it: "
            f"{type(error).__name__}: {error}"
        ) from error


def _examples(tfds: Any, builder: Any, part: str) -> Iterator[dict[str, Any]]:
    """The examples of one split as dictionaries of NumPy arrays."""
    try:
        return iter(builder.as_data_source(part))
    except NotImplementedError:  # prepared in a format that only TensorFlow reads
        return iter(tfds.as_numpy(builder.as_dataset(split=part)))


def _convert(name, info, examples):
    """Examples of all splits -> text or parts."""
    if "text" in info.features and "image" not in info.features:
        order = sorted(examples, key=lambda part: {"train": 0, "validation": 1, "test": 2}.get(part, 3))
        return "".join("\n".join(example["text"].decode() for example in examples[part]) for part in order)
    test = next((part for part in ("test", "validation") if part in examples), None)
    train_x, train_y = _arrays(name, info, examples.get("train", ()))
    if test is None:
        return split(train_x, train_y)
    return Parts(train_x, train_y, *_arrays(name, info, examples[test]))


def _arrays(name, info, examples):
    """The inputs and the labels of examples."""
    cause = None
    try:
        keys = (info.supervised_keys or ("image", "label"))[:2]
        x, y = (np.stack([example[key] for example in examples]) for key in keys)
        if x.ndim in (2, 3, 4) and y.ndim == 1 and x.dtype.kind in "uif" and y.dtype.kind in "uif":
            return x, y
    except (KeyError, TypeError, ValueError) as error:
        cause = error
    raise ValueError(
        f"{name!r} of tensorflow-datasets has neither text nor a split 'train' of arrays of one shape with a number as "
        f"label; its features are {info.features}. Choose another set."
    ) from cause


def _keep(stem, raw):
    """Puts the data into the cache folder, where that can be written to."""
    if isinstance(raw, str):
        cache_folder.put(_cache_folder() / f"{stem}.txt", lambda file: file.write(raw.encode("utf-8")))
    else:
        cache_folder.put(_cache_folder() / f"{stem}.npz", lambda file: np.savez(file, **raw._asdict()))


def _importable(module):
    return importlib.util.find_spec(module) is not None


def _slug(name):
    """The name as part of a file name."""
    return re.sub(r"[^\w.-]", "+", name)


def _cache_folder():
    return cache_folder.cache_folder() / "data"


def _prepared_folder():
    """Where tensorflow-datasets keeps what it prepares, or None if the home folder of the user is unknown."""
    try:
        return Path(os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets").expanduser()
    except RuntimeError:
        return None
