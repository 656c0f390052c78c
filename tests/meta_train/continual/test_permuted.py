"""Permutations of pixels."""

import numpy as np
import pytest

from meta_train import continual


def test_orders_of_all_pixels_the_first_as_it_is():
    orders = continual.permutations(4, 50, seed=3)
    assert orders.shape == (4, 50) and orders.dtype == np.int32
    np.testing.assert_array_equal(orders[0], np.arange(50))
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(50), (4, 1)))
    assert len(np.unique(orders, axis=0)) == 4
    np.testing.assert_array_equal(orders, continual.permutations(4, 50, seed=3))
    assert np.any(orders != continual.permutations(4, 50, seed=4))


@pytest.mark.parametrize(("tasks", "inputs"), [(0, 3), (2, 0)])
def test_wrong_arguments(tasks, inputs):
    with pytest.raises(ValueError, match=f"got num_tasks={tasks}, num_inputs={inputs}"):
        continual.permutations(tasks, inputs)
