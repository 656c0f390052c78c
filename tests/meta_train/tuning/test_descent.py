"""Descent: derivatives of trainings, votes of trainings, and a journal that remembers them."""

import jax
import numpy as np
import pytest

from meta_train import problems
from meta_train import tasks
from meta_train.adaptation import clock
from meta_train.adaptation.journal import Journal
from meta_train.tuning import descent

X = np.linspace(-1.0, 1.0, 12, dtype=np.float32)


def line():
    return tasks.from_functions(
        "line",
        init=lambda key: {"w": 0.1 * jax.random.normal(key)},
        loss=lambda params, batch, key: ((batch["x"] * params["w"] - batch["y"]) ** 2).mean() + 1e-3,
        data={"x": X, "y": 3.0 * X},
        batch_size=6,
        held_out=lambda key: {"x": X, "y": 2.0 * X},
    )


@pytest.mark.parametrize("way", descent.WAYS)
def test_hypergradients_point_where_the_held_out_loss_falls(way):
    """Steps are far too short, so a larger rate helps in both blocks; each training has its own seed."""
    task = line()
    find = descent.hypergradients(task, task.data, 6, 2, held_out=True, way=way)
    theta = problems.hyper_theta(learning_rate=0.01, momentum=0.1, weight_decay=1e-3, num_blocks=2)
    point = np.concatenate(theta)
    losses, gradients = find(point, range(3, 7))
    assert losses.shape == (4,) and gradients.shape == (4, 6) and len(set(losses.tolist())) == 4
    assert (gradients[:, :2] < 0).all() and np.isfinite(gradients).all()
    better, _ = find(point - 0.5 * np.sign(gradients.mean(axis=0)), range(3, 7))
    assert (better < losses).all()


def _descend(find, journal, **arguments):
    with clock.shown(journal.seconds, 1000.0, quiet=True) as timer:
        return descent.descend(find, np.zeros(2), journal, timer, seeds=3, until=0.0, seed=1, **arguments)


def test_votes_move_what_trainings_agree_about(monkeypatch):
    monkeypatch.setattr(descent, "MOST", 20)
    asked = []

    def find(point, seeds):
        """All say that the first number should be larger, by many magnitudes apart; on the second they disagree."""
        asked.append(list(seeds))
        gradients = np.array([[-1e-9, 1.0], [-1e9, -1.0], [np.nan, 1.0]])
        return np.array([1.0, 2.0, np.nan]), gradients

    journal = Journal(None, {}, resume=False)
    path = _descend(find, journal)
    assert len(path.losses) == 20 and path.points.shape == (21, 2)
    np.testing.assert_allclose(path.losses, 1.5)
    np.testing.assert_allclose(path.points[:, 1], 0.0)
    moves = np.diff(path.points[:, 0])
    np.testing.assert_allclose(moves[[0, -1]], [0.15, 0.03], rtol=1e-6)
    assert asked[0] == [2**16, 2**16 + 1, 2**16 + 2] and asked[1][0] == asked[0][-1] + 1
    again = _descend(lambda *arguments: pytest.fail("it is in the journal"), journal)
    np.testing.assert_array_equal(again.points, path.points)


def test_half_of_a_move_is_taken_back_where_all_diverge(monkeypatch):
    monkeypatch.setattr(descent, "MOST", 3)
    answers = iter([1.0, np.nan, 1.0])

    def find(point, seeds):
        answer = next(answers)
        return np.full(3, answer), np.full((3, 2), answer)

    path = _descend(find, Journal(None, {}, resume=False))
    np.testing.assert_allclose(path.points[1:3, 0], [-0.15, -0.075], rtol=1e-6)
    assert np.isnan(path.losses[1])


def test_candidates_of_short_descents():
    assert list(descent.candidates(np.zeros((2, 3)))) == ["step 1"]
    assert list(descent.candidates(np.zeros((1, 3)))) == ["step 0"]
