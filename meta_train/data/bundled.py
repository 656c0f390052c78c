"""The data sets that need no files: what scikit-learn bundles.

`photos` are patches of 8×8 pixels of scikit-learn's two sample photographs; the label says which
photograph. `sklearn_docs` is a text: its descriptions of data sets, whose length depends on the installed version.
"""

import importlib.resources

import numpy as np
import sklearn.datasets

from meta_train.data.parts import Parts
from meta_train.data.parts import split

_TABLES = {
    "breast_cancer": sklearn.datasets.load_breast_cancer,
    "diabetes": sklearn.datasets.load_diabetes,  # targets to predict; the others have labels
    "iris": sklearn.datasets.load_iris,
    "wine": sklearn.datasets.load_wine,
}
_PATCH = 8  # pixels


def read(name: str) -> Parts | str:
    """Reads the data set of that name, one of `READERS`."""
    return READERS[name]()


def _table(load):
    x, y = load(return_X_y=True)
    return split(x, y)


def _digits():
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    return split(x.reshape(-1, 8, 8) / 16.0, y)


def _photos():
    """Patches that do not overlap; the right fifth of each photograph is held out."""
    photos = sklearn.datasets.load_sample_images().images
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


def _sklearn_docs():
    folder = importlib.resources.files("sklearn.datasets").joinpath("descr")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".rst")), key=lambda file: file.name)
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


# name -> function that reads it
READERS = {
    **{name: lambda load=load: _table(load) for name, load in _TABLES.items()},
    "digits": _digits,
    "photos": _photos,
    "sklearn_docs": _sklearn_docs,
}
