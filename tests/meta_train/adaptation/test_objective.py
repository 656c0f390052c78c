"""What a point of the search is measured by."""

import jax
import numpy as np
import pytest

from meta_train.adaptation import objective
from meta_train.adaptation.trainings import CHOOSE
from meta_train.adaptation.trainings import Made
from meta_train.adaptation.trainings import Trainings
from meta_train.evaluation import lanes

SPACE = objective.Space(np.array([1.0, 2.0]), np.array([[0.5, 0.0], [0.0, 0.25], [1.0, 1.0]]))


@pytest.mark.parametrize("kind", objective.OBJECTIVES)
def test_points_train_from_the_same_seeds_and_give_the_log_of_their_final_loss(kind):
    asked = []

    def run(thetas, keys, marks, *, data, held_out):
        asked.append((thetas, jax.random.key_data(keys), marks, data, held_out))
        losses = np.stack([np.full(marks[-1], theta.sum()) for theta in thetas])
        losses[:, :-1] = 7.0  # the last tenth of ten steps is the last one
        return Made(losses, {"loss": 3.0 * losses[None, :, -1]})

    measure = objective.measurer(Trainings(run, None, 2, 4), SPACE, kind, "data", 1.0)
    found = measure(np.array([[0.0, 0.0, 0.0], [2.0, 4.0, 0.0]]), range(1, 3), CHOOSE, 10)
    factor = 3.0 if kind == objective.HELD_OUT else 1.0
    np.testing.assert_allclose(found, np.log(factor * np.array([[3.0, 3.0], [5.0, 5.0]])))
    ((thetas, keys, marks, data, held_out),) = asked
    assert thetas.tolist() == [[1.0, 2.0]] * 2 + [[2.0, 3.0]] * 2
    np.testing.assert_array_equal(keys, jax.random.key_data(lanes.keys(3, CHOOSE))[np.array([1, 2, 1, 2])])
    assert (marks, data, held_out) == ((10,), "data", kind == objective.HELD_OUT)


def test_a_diverged_training_is_worse_than_all_others_and_zero_is_finite():
    found = objective.log_losses(np.array([np.nan, np.inf, 1e30, 2.0, 1e-30, 0.0, -1.0]), 2.0)
    assert np.isfinite(found).all() and found[3] == np.log(2.0)
    assert found[0] == found[1] == found[2] > found[3] > found[4] == found[5] == found[6]
