"""What scikit-learn bundles: every row once, photographs put together again from their patches, the descriptions."""

import pathlib
import sys

import numpy as np
import pytest
import sklearn
import sklearn.datasets

from meta_train.data import bundled


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "digits", "iris", "wine"])
def test_the_parts_are_disjoint_and_cover_all_rows(name):
    """Together they hold every row of the set, as often as it occurs there and with its own label."""
    raw_x, raw_y = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    parts = bundled.read(name)
    scale = 16 if name == "digits" else 1
    rows = [np.column_stack([x.reshape(len(x), -1) * scale, y]) for x, y in (parts[:2], parts[2:])]
    whole = np.column_stack([raw_x, raw_y]).tolist()
    together = np.concatenate(rows).tolist()
    assert len(rows[0]) == len(whole) * 4 // 5
    assert sorted(together) == sorted(whole)
    assert together != whole  # shuffled before the split, for some of the sets are sorted by label


def test_digits_are_upright():
    """The pixels are in the order of scikit-learn's own pictures."""
    images = sklearn.datasets.load_digits().images / 16
    known = {image.tobytes() for image in images}
    assert all(image.tobytes() in known for image in bundled.read("digits").train_x)


def test_photos_are_all_patches_of_both_photographs_and_the_right_fifth_is_held_out():
    parts = bundled.read("photos")
    photos = sklearn.datasets.load_sample_images().images
    for label, photo in enumerate(photos):
        train = [photo[8 * i : 8 * i + 8, 8 * j : 8 * j + 8].tobytes() for i in range(53) for j in range(64)]
        test = [photo[8 * i : 8 * i + 8, 8 * j : 8 * j + 8].tobytes() for i in range(53) for j in range(64, 80)]
        for x, y, expected in ((parts.train_x, parts.train_y, train), (parts.test_x, parts.test_y, test)):
            assert sorted(patch.tobytes() for patch in x[y == label]) == sorted(expected)
    assert len(parts.train_x) == 2 * 53 * 64 and len(parts.test_x) == 2 * 53 * 16
    assert 0.4 < parts.train_y[:200].mean() < 0.6  # the photographs are mixed


def test_sklearn_docs_are_the_descriptions():
    folder = pathlib.Path(sklearn.__file__).parent / "datasets" / "descr"
    files = [path.read_bytes().decode() for path in sorted(folder.glob("*.rst"))]
    assert len(files) >= 8
    assert bundled.read("sklearn_docs") == "\n".join(files)


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install scikit-learn$"):
        bundled.read("iris")
