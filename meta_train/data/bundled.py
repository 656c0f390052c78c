"""The data sets that need no files: what scikit-learn bundles. It is imported when one is read, since that takes long.

`photos` are patches of 8×8 pixels of scikit-learn's two sample photographs; the label says which
photograph. `sklearn_docs` is a text: its descriptions of data sets, whose length depends on the installed version.
"""

import importlib.resources

import numpy as np

from meta_train.data.parts import Parts
from meta_train.data.parts import split
from meta_train.host import extra

_TABLES = ("breast_cancer", "diabetes", "iris", "wine")  # diabetes has targets to predict, the others have labels
_PATCH = 8  # pixels


def read(name: str) -> Parts | str:
    """Reads the data set of that name, one of `READERS`.

    Raises:
      ModuleNotFoundError: if scikit-learn is not installed.
    """
    try:
        import sklearn.datasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(extra.advice(["scikit-learn"]), name=error.name) from error
    return READERS[name](sklearn.datasets)


def _table(load):
    x, y = load(return_X_y=True)
    return split(x, y)


def _digits(datasets):
    x, y = datasets.load_digits(return_X_y=True)
    return split(x.reshape(-1, 8, 8) / 16.0, y)


def _photos(datasets):
    """Patches that do not overlap; the right fifth of each photograph is held out."""
    photos = datasets.load_sample_images().images
    train, test = [], []
    for photo in photos:
        rows, columns = photo.shape[0] // _PATCH, photo.shape[1] // _PATCH
        grid = photo[: rows * _PATCH, : columns * _PATCH].reshape(rows, _PATCH, columns, _PATCH, 3).swapaxes(1, 2)
        train.append(grid[:, : columns * 4 // 5].reshape(-1, _PATCH, _PATCH, 3))
        test.append(grid[:, columns * 4 // 5 :].reshape(-1, _PATCH, _PATCH, 3))
    return Parts(*_shuffled(train), *_shuffled(test))


def _shuffled(groups):
    """The groups' examples in an order drawn with a fixed seed, labeled by their group."""
    labels = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    order = np.random.default_rng(0).permutation(len(labels))
    return np.concatenate(groups)[order], labels[order]


def _sklearn_docs(datasets):
    folder = importlib.resources.files(datasets).joinpath("descr")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".rst")), key=lambda file: file.name)
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


# name -> function that reads it from `sklearn.datasets`
READERS = {
    **{name: lambda datasets, name=name: _table(getattr(datasets, f"load_{name}")) for name in _TABLES},
    "digits": _digits,
    "photos": _photos,
    "sklearn_docs": _sklearn_docs,
}
