"""Finds the files of a data set in a folder of data sets.

The folder is searched first, then each of its subfolders in alphabetical order. In each place a folder with the set's
name comes before files with its name.

    NAME/train-images-idx3-ubyte[.gz] …    the four official files of MNIST and its kin
    NAME/train/CLASS/*.png, *.jpg …        pictures, and held-out ones in NAME/test/CLASS/, see `picture_tree`
    NAME/*.npz, *.csv[.gz] or *.txt        the only file of that kind; or, of several, the one called NAME.*
    NAME/*.tar[.gz|.xz] or *.zip           the only archive: the folders of pictures, packed
    NAME.npz, NAME.csv[.gz], NAME.txt, NAME.tar[.gz|.xz], NAME.zip
    NAME.data.csv[.gz]                     with NAME.test_mask.csv[.gz] if there is one
    NAME/data.csv[.gz]                     with NAME/test_mask.csv[.gz] if there is one

Of several kinds the first in this order is taken; files of other kinds are ignored. A mask has as many rows as the
table, and a one in its first column holds the row out; other columns, as for further folds, are not read.

`cifar10/subset.npz` is not CIFAR-10 but the data set `cifar2k`, a part of it.
"""

import os
from pathlib import Path

from meta_train.data import csv_tables
from meta_train.data import formats
from meta_train.data import picture_tree
from meta_train.data.parts import Parts
from meta_train.data.parts import split

DATA_DIR_VARIABLE = "LEARNED_OPTIM_DATA"  # names the folder

IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_SUFFIXES = (".npz", ".csv", ".csv.gz", ".data.csv", ".data.csv.gz", ".txt", *picture_tree.SUFFIXES)
_MASK_SUFFIXES = (".test_mask.csv", ".test_mask.csv.gz")
_MASKS = ("test_mask.csv", "test_mask.csv.gz")  # of data.csv
_SUBSETS = {"cifar2k": ("cifar10", "subset.npz")}  # data sets that may be a file in the folder of another one


def chosen(data_dir: str | os.PathLike[str] | None) -> Path | None:
    """The folder of data sets as an absolute path, or None if there is none.

    Args:
      data_dir: the folder; None takes what LEARNED_OPTIM_DATA names.

    Raises:
      FileNotFoundError: if it does not exist.
    """
    given = data_dir if data_dir is not None else os.environ.get(DATA_DIR_VARIABLE)
    if not given:
        return None
    folder = Path(os.path.expanduser(given)).resolve()  # leaves ~ as it is where the home folder is unknown
    if not folder.is_dir():
        source = "data_dir" if data_dir is not None else DATA_DIR_VARIABLE
        raise FileNotFoundError(f"{source} must name a folder that exists, got {os.fspath(given)!r}.")
    return folder


def find(folder: Path, name: str) -> tuple[Path, ...]:
    """Finds the files of a data set, without opening them.

    Args:
      folder: the folder of data sets.
      name: the data set's name.

    Returns:
      The four idx files, pictures before labels and training before held-out, or one file of another format, or the
      folder that has the pictures' folders; empty if there is none.

    Raises:
      ValueError: if the folder of that name has some of the four idx files but not all, or several files of one kind of
        which none has the set's name.
    """
    if Path(name).name != name or not name.strip("."):  # no way out of the folder
        return ()
    for place in (folder, *sorted(path for path in folder.iterdir() if os.path.isdir(path))):
        found = _find_inside(place / name, name) if os.path.isdir(place / name) else ()
        found = found or _existing(place, name, _SUFFIXES)
        if not found and name in _SUBSETS:
            whole, file = _SUBSETS[name]
            found = _existing(place / whole, file, ("",))
        if found:
            return found
    return ()


def wanted(name: str) -> str:
    """What `find` looks for, for an error message.

    Example:
      >>> wanted("sunspots")
      'sunspots/ or sunspots.npz, .csv, .csv.gz, .data.csv, .data.csv.gz, .txt, .tar, .tar.gz, .tar.xz, .zip'
    """
    return f"{name}/ or {name}{', '.join(_SUFFIXES)}"


def read(paths: tuple[Path, ...]) -> Parts | str:
    """Reads what `find` found.

    Raises:
      ValueError: if a file is not what its name says; the message names the file.
    """
    if len(paths) == 4:
        train_images, train_labels, test_images, test_labels = paths
        train = formats.read_idx_pair(train_images, train_labels)
        test = formats.read_idx_pair(test_images, test_labels)
        if train[0].shape[1:] != test[0].shape[1:]:
            raise ValueError(
                f"{train_images} has pictures of {train[0].shape[1:]} and {test_images} of {test[0].shape[1:]}."
            )
        return Parts(*train, *test)
    (path,) = paths
    if path.name.endswith(picture_tree.SUFFIXES) or os.path.isdir(path):
        return picture_tree.read(path)
    if path.suffix == ".npz":
        return formats.read_npz(path)
    if path.suffix == ".txt":
        return formats.read_text(path)
    return _read_table(path)


def _find_inside(folder, name):
    """The files of the data set in the folder that has its name."""
    idx = [_existing(folder, stem, ("", ".gz")) for stem in IDX_FILES]
    if any(idx):
        missing = [stem for stem, found in zip(IDX_FILES, idx, strict=True) if not found]
        if missing:
            raise ValueError(f"{folder} has some of the four idx files but not {', '.join(missing)} (or with .gz).")
        return tuple(path for found in idx for path in found)
    named = _existing(folder, name, _SUFFIXES)
    if named:
        return named
    if picture_tree.is_tree(folder):
        return (folder,)
    paths = [path for path in sorted(folder.iterdir()) if os.path.isfile(path) and not _is_mask(path)]
    paths = [path for path in paths if (name, path.name) not in _SUBSETS.values()]
    for suffixes in ((".npz",), (".csv", ".csv.gz"), (".txt",), picture_tree.SUFFIXES):
        found = tuple(path for path in paths if path.name.endswith(suffixes))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise ValueError(f"{folder}: which file is {name}: {names}? Rename it to {name}{suffixes[0]}.")
        if found:
            return found
    return ()


def _existing(folder, stem, suffixes):
    """The first of the files that exists, as a tuple of one, or nothing."""
    paths = (folder / f"{stem}{suffix}" for suffix in suffixes)
    return next(((path,) for path in paths if os.path.isfile(path)), ())


def _is_mask(path):
    return path.name.endswith(_MASK_SUFFIXES) or path.name in _MASKS


def _read_table(path):
    """A csv file, divided by the mask beside it or at random."""
    x, y = csv_tables.read_csv(path)
    stem = path.name.removesuffix(".gz").removesuffix(".csv").removesuffix(".data")
    masks = _existing(path.parent, stem, _MASK_SUFFIXES)
    if not masks and stem == "data":
        masks = _existing(path.parent, "", _MASKS)
    if not masks:
        return split(x, y)
    mask = csv_tables.read_mask(masks[0])
    if len(mask) != len(x):
        raise ValueError(f"{path} has {len(x)} rows and {masks[0]} has {len(mask)}.")
    return Parts(x[~mask], y[~mask], x[mask], y[mask])
