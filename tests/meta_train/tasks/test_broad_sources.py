"""The data sets of a pool: what is taken from a given one, and what the generated ones are."""

import numpy as np
import pytest

from meta_train.data import Dataset
from meta_train.tasks import broad_sources


def dataset(train_y, test_y, columns=3):
    rng = np.random.default_rng(0)
    make = lambda num: (5.0 + 3.0 * rng.normal(size=(num, columns))).astype(np.float32)
    return Dataset(make(len(train_y)), train_y, make(len(test_y)), test_y)


def test_inputs_are_standardized_as_a_whole_and_padded():
    given = dataset(np.arange(30, dtype=np.int32) % 3, np.arange(6, dtype=np.int32) % 3)
    found = broad_sources.standardized("mine", given)
    assert (found.num_inputs, found.num_classes, found.has_value) == (3, 3, False)
    assert found.train.x.shape == (30, 64)
    assert not found.train.x[:, 3:].any()
    used = found.train.x[:, :3]
    assert used.mean() == pytest.approx(0, abs=1e-12)
    assert np.square(used).mean() == pytest.approx(1)
    scale = given.train_x.astype(np.float64).std()
    np.testing.assert_allclose(np.ptp(found.test.x[:, 0]), np.ptp(given.test_x[:, 0]) / scale, rtol=1e-6)
    np.testing.assert_array_equal(found.train.label, given.train_y)
    assert not found.train.value.any()


def test_numbers_to_predict_give_deciles():
    y = np.random.default_rng(1).permutation(50).astype(np.float32)
    found = broad_sources.standardized("mine", dataset(y, y))
    assert found.has_value
    np.testing.assert_array_equal(found.train.value, y)
    np.testing.assert_array_equal(found.train.label, y // 5)


def test_what_does_not_fit_is_refused():
    labels = np.arange(30, dtype=np.int32)
    with pytest.raises(ValueError, match="at most 64 inputs and 10 classes, got 'mine' with 3 and 30"):
        broad_sources.standardized("mine", dataset(labels, labels))
    with pytest.raises(ValueError, match="got 'mine' with 65 and 2"):
        broad_sources.standardized("mine", dataset(labels % 2, labels % 2, columns=65))
    with pytest.raises(ValueError, match="none of class 2"):
        broad_sources.standardized("mine", dataset(labels % 3, labels[:2]))


def test_clusters_of_a_class_lie_together_and_classes_overlap_for_a_linear_function():
    found = broad_sources.clusters()
    assert np.square(found.train.x).mean() == pytest.approx(1, rel=0.02)
    test, train = found.test.x[:200], found.train.x[:1000]
    nearest = (np.square(train).sum(axis=1) - 2 * test @ train.T).argmin(axis=1)
    of_neighbours = np.mean(found.train.label[nearest] == found.test.label[:200])
    targets = np.eye(10)[found.train.label]
    weights, *_ = np.linalg.lstsq(found.train.x, targets, rcond=None)
    of_line = np.mean((found.test.x @ weights).argmax(axis=1) == found.test.label)
    assert 0.1 < of_line < 0.9
    assert of_neighbours > 0.3  # guessing: 0.1


def test_gaussian_inputs_have_no_labels():
    found = broad_sources.gaussian()
    assert (found.num_classes, found.has_value) == (1, False)
    np.testing.assert_allclose(found.train.x.std(axis=0), 1, atol=0.06)
