"""What a tuning begins with: parts of the held-out data, and an objective."""

import numpy as np
import pytest

from meta_train import tasks
from meta_train.tuning import setup as setups


def test_search_and_verdict_see_different_held_out_data():
    task = tasks.get("digits-softmax")
    setup = setups.set_up(task, 100, 10, "training", "forward")
    assert (setup.objective, setup.way, setup.whole) == ("training", "forward", task)
    np.testing.assert_array_equal(setup.search_data.test_x, task.data.test_x[0:-1:2])
    np.testing.assert_array_equal(setup.task.data.test_x, task.data.test_x[1::2])
    np.testing.assert_array_equal(setup.task.data.train_x, task.data.train_x)


def test_held_out_needs_held_out_data():
    points = np.ones((4, 1), np.float32)
    task = tasks.from_functions(
        "mine",
        init=lambda key: points[0],
        loss=lambda w, batch, key: ((batch @ w) ** 2).mean(),
        data=points,
        batch_size=2,
    )
    assert setups.set_up(task, 10, 2, None, "backprop").objective == "training"
    with pytest.raises(ValueError, match="mine has no held-out data for the objective 'held-out'"):
        setups.set_up(task, 10, 2, "held-out", "backprop")
