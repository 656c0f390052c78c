"""How to get a data set that is missing. All error messages take this advice, so that they agree."""

from pathlib import Path

from meta_train.data import bundled
from meta_train.data import data_folder
from meta_train.data import tfds as data_tfds

# How to install tensorflow-datasets. It does not name this library as a package, since no package index may have it.
INSTALL_TFDS = (
    "pip install '.[tfds]' in a checkout of learned_optim, or anywhere pip install importlib_resources tensorflow "
    "tensorflow-datasets"
)

_TABLES = ("airfoil", "bike", "energy", "kin40k", "pol", "protein", "yacht")
_TABLES_ARE_IN = "https://github.com/treforevans/uci_datasets"
_TEXTS_ARE_AT = {
    "names": "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt",
    "tiny_shakespeare": "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
}
_PART = "cifar2k"  # a part of cifar10
_PICTURES = ("cifar10", "svhn_cropped")
_IDX = ("fashion_mnist", "kmnist", "mnist")

# Data sets of the named tasks, or that tensorflow-datasets downloads.
KNOWN = (*_TABLES, *_PICTURES, _PART, *_IDX, *_TEXTS_ARE_AT)


def ways(name: str, folder: Path | None) -> str:
    """The ways to get a data set, a line each: only those that work for this set and on this machine.

    Args:
      name: the data set's name.
      folder: the folder of data sets that was searched, or None if none was given.
    """
    place = f"{folder} or one of its subfolders" if folder else "a folder"
    variable = data_folder.DATA_DIR_VARIABLE
    lines = [f"- Put files into {place}, named by --data-dir, data_dir= or {variable}: {_files(name)}."]
    if name in _TABLES:
        lines.append(f"- Its files are in {_TABLES_ARE_IN}: git clone that, and give the clone as the folder.")
    if name in _TEXTS_ARE_AT:
        lines.append(f"- Its text is at {_TEXTS_ARE_AT[name]}: save it as {name}.txt.")
    if name == _PART:
        lines.append("- It is a part of CIFAR-10: docs/data.md says how to make one of cifar10.")
    if name in data_tfds.NAMES and data_tfds.installed():
        lines.append("- tensorflow-datasets downloads it, with a network and TensorFlow: pip install tensorflow.")
    elif name in data_tfds.NAMES:
        lines.append(f"- tensorflow-datasets downloads it, but is not installed: {INSTALL_TFDS}.")
    elif name not in KNOWN and not data_tfds.installed():
        lines.append(f"- If tensorflow-datasets has it, install that: {INSTALL_TFDS}.")
    lines.append(
        f"- Or do without: scikit-learn brings {', '.join(sorted(bundled.READERS))}. The command 'python -m "
        "meta_train evaluate' has --embedded for tasks that need no other data."
    )
    return "\n".join(lines)


def _files(name):
    """The names of the files that hold the data set."""
    archive = f"{name}.npz with the arrays train_x, train_y, test_x, test_y"
    if name in _IDX:
        return f"{name}/ with {', '.join(data_folder.IDX_FILES)}, each with or without .gz; or {archive}"
    if name in _PICTURES:
        tree = f"{name}/train/CLASS/*.png and {name}/test/CLASS/*.png (or .jpg), which may be packed"
        return f"{archive}; or {tree} in {name}.tar, .tar.gz, .tar.xz or .zip"
    if name == _PART:
        return archive
    if name in _TABLES:
        return f"{name}.csv, or {name}/data.csv and {name}/test_mask.csv, each with or without .gz"
    return f"{name}.txt, a text in UTF-8" if name in _TEXTS_ARE_AT else data_folder.wanted(name)
