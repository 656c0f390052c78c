"""The bundled data sets: shapes, one split for all, standardisation without a look at the held-out part."""

import numpy as np
import pytest
import sklearn.datasets

from meta_train import data

# name -> rows, features, classes
SIZES = {"breast_cancer": (569, 30, 2), "digits": (1797, 64, 10), "iris": (150, 4, 3), "wine": (178, 13, 3)}


@pytest.mark.parametrize("name", SIZES)
def test_shapes_dtypes_and_classes(name):
    rows, features, classes = SIZES[name]
    dataset = data.load(name)
    num_train = rows * 4 // 5
    assert dataset.train_x.shape == (num_train, features)
    assert dataset.test_x.shape == (rows - num_train, features)
    assert (dataset.train_y.shape, dataset.test_y.shape) == ((num_train,), (rows - num_train,))
    assert dataset.train_x.dtype == dataset.test_x.dtype == np.float32
    assert dataset.train_y.dtype == dataset.test_y.dtype == np.int32
    assert data.num_classes(dataset) == classes
    assert set(dataset.train_y) == set(dataset.test_y) == set(range(classes))


def _undo_scaling(dataset, raw_x):
    """The features of both parts in the units of the raw columns, each snapped to the nearest value that occurs there.

    It supposes only that a column was shifted and stretched, so that its lowest and highest value are still that.
    """
    x = np.concatenate([dataset.train_x, dataset.test_x]).astype(np.float64)
    columns = []
    for column, raw in zip(x.T, raw_x.T, strict=True):
        share = (column - column.min()) / (np.ptp(column) or 1.0)
        values = np.unique(raw)
        recovered = raw.min() + share * np.ptp(raw)
        columns.append(values[np.argmin(abs(recovered[:, None] - values), axis=1)])
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("name", SIZES)
def test_the_parts_are_disjoint_and_cover_all_rows(name):
    """Together they hold every row of the set, as often as it occurs there and with its own label."""
    raw_x, raw_y = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    dataset = data.load(name)
    labels = np.concatenate([dataset.train_y, dataset.test_y])
    parts = np.column_stack([_undo_scaling(dataset, raw_x), labels]).tolist()
    whole = np.column_stack([raw_x, raw_y]).tolist()
    assert sorted(parts) == sorted(whole)
    assert parts != whole  # shuffled before the split, for two of the sets are sorted by label


@pytest.mark.parametrize("name", ["breast_cancer", "iris", "wine"])
def test_tables_are_standardised_by_the_training_part(name):
    dataset = data.load(name)
    train_x, test_x = (x.astype(np.float64) for x in (dataset.train_x, dataset.test_x))
    np.testing.assert_allclose(train_x.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(train_x.std(axis=0), 1, atol=1e-6)
    assert np.max(abs(test_x.mean(axis=0))) > 0.03  # it had no say


def test_images_are_scaled_to_the_unit_interval():
    x = np.concatenate([data.load("digits").train_x, data.load("digits").test_x])
    assert set(np.unique(x)) == {level / 16 for level in range(17)}


@pytest.mark.parametrize("name", SIZES)
def test_loading_again_gives_the_same_split(name):
    for first, second in zip(data.load(name), data.load(name), strict=True):
        np.testing.assert_array_equal(first, second)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"no data set 'digit'. Did you mean 'digits'\? Choose from breast"):
        data.load("digit")
    with pytest.raises(ValueError, match=r"no data set 'xyz'. Choose from breast_cancer, digits, iris, wine"):
        data.load("xyz")
