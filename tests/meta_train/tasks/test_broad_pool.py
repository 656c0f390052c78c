"""A pool's rows are those of its data sets, sorted by class, and its functions are standardized and varied."""

import numpy as np
import pytest

from meta_train import data
from meta_train.tasks import broad_pool


def part(rows, version):
    return slice(rows.offset[version, 0], rows.offset[version, 0] + rows.count[version].sum())


def test_rows_are_those_of_the_data_sets_in_order_of_class():
    digits, rows = data.load("digits"), broad_pool.pool().train
    x = digits.train_x.reshape(-1, 64).astype(np.float64)
    x = (x - x.mean()) / x.std()
    for label in range(10):
        begin, count = rows.offset[0, label], rows.count[0, label]
        expected = x[digits.train_y == label]
        assert count == len(expected)
        order = lambda x: x[np.lexsort(x.round(3).T)]
        np.testing.assert_allclose(order(rows.x[begin : begin + count]), order(expected), atol=1e-5)


def test_rotated_copies_have_the_distances_of_the_data_set():
    pool = broad_pool.pool()
    plain, turned = pool.train.x[part(pool.train, 0)], pool.train.x[part(pool.train, 1)]
    distances = lambda x: np.square(x[:5, None] - x[None, 5:50]).sum(axis=2)
    np.testing.assert_allclose(distances(plain), distances(turned), rtol=1e-4)
    assert np.abs(plain - turned).max() > 1
    table = pool.train.x[part(pool.train, 4)]  # ten columns, spread over all 64 inputs
    assert np.linalg.matrix_rank(table, tol=1e-2) == 10
    assert np.square(table).mean() == pytest.approx(1, rel=1e-3)
    np.testing.assert_array_equal(pool.facts.num_inputs[3:6], [10, 64, 64])


def test_functions_are_standardized_on_the_training_rows_and_differ():
    pool = broad_pool.pool()
    for version in (0, 4, 7):
        functions = pool.train.targets[part(pool.train, version), 1:].astype(np.float64)
        np.testing.assert_allclose(functions.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(functions.std(axis=0), 1, rtol=1e-4)
        moments = functions.T @ functions / len(functions)
        np.testing.assert_allclose(pool.facts.moments[version], moments, atol=1e-4)
        # A linear function of the inputs explains the linear ones wholly, the networks in part.
        x = pool.train.x[part(pool.train, version)].astype(np.float64)
        x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
        weights, *_ = np.linalg.lstsq(x, functions, rcond=None)
        unexplained = np.square(functions - x @ weights).mean(axis=0)
        assert unexplained[:8].max() < 1e-6
        assert unexplained[8:].min() > 0.01


def test_values_are_those_of_the_table_and_no_other_data_set_has_any():
    pool, table = broad_pool.pool(), data.load("diabetes")
    values = pool.train.targets[part(pool.train, 3), 0]
    np.testing.assert_allclose(np.sort(values), np.sort(table.train_y), atol=1e-6)
    assert not pool.train.targets[part(pool.train, 0), 0].any()
    np.testing.assert_array_equal(pool.facts.has_value, [False] * 3 + [True] * 3 + [False] * 4)
    assert pool.facts.chance.sum() == pytest.approx(1)


def test_pools_of_other_data():
    small = broad_pool.pool(("iris",), rotations=0)
    assert small.names == ("iris", "gaussian", "clusters")
    np.testing.assert_array_equal(small.facts.num_classes, [3, 1, 10])
    assert small.train.count[0, 3:].tolist() == [1] * 7
    with pytest.raises(ValueError, match="got the text 'sklearn_docs'"):
        broad_pool.pool(("sklearn_docs",))
    with pytest.raises(ValueError, match="at least 0, got -1"):
        broad_pool.pool(rotations=-1)


def test_names_may_be_a_list_but_not_a_string():
    assert broad_pool.pool([], rotations=0) is broad_pool.pool((), rotations=0)
    assert broad_pool.pool([], rotations=0).names == ("gaussian", "clusters")
    with pytest.raises(TypeError, match=r"got 'digits': write \('digits',\)"):
        broad_pool.pool("digits")
