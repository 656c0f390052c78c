"""One optimizer on one task: trials of all hyperparameters, and the choice by held-out loss on one of two halves."""

import numpy as np
import optax
import pytest

from meta_train import tasks
from meta_train.data import Dataset
from meta_train.evaluation import bench
from meta_train.evaluation import evaluate
from meta_train.evaluation import protocol
from meta_train.evaluation import tuning
from meta_train.evaluation.baselines import BASELINES
from meta_train.evaluation.trials import Hyperparameters

pytestmark = pytest.mark.optax_promotion

POINTS = (Hyperparameters(1e-4, 1e-3, 0.0, 0.99), Hyperparameters(0.3, 1e-5, 0.1, 0.95))


def test_trials_are_compared_and_the_best_is_told(monkeypatch):
    """Beside an optimizer made with the same hyperparameters by hand: the same losses."""
    monkeypatch.setattr(bench, "trials", lambda: POINTS)
    task = tasks.quadratic(size=3)
    twin = {"twin": lambda num_steps: BASELINES["adamw-trials"].make(POINTS[1], num_steps)}
    (judged,) = protocol.judge(task, twin, horizons=(30,), num_seeds=2, baselines=("adamw-trials",)).values()
    (found,) = judged.baselines
    assert (found.optimizer, found.plain_name) == ("AdamW, cosine 0.3 (20 trials)", "AdamW, cosine (20 trials)")
    assert (found.learning_rate, found.hyperparameters) == (0.3, POINTS[1]._asdict())
    np.testing.assert_allclose(found.losses, judged.contenders[0].losses, rtol=1e-4)


def test_a_rate_at_the_edge_of_the_grid_is_told(monkeypatch):
    chosen = {5: tuning.Choice(0, None), 10: tuning.Choice(1, None), 20: tuning.Choice(2, None)}
    monkeypatch.setattr(tuning, "choose", lambda program, candidates, **rest: chosen)
    found = protocol.judge(
        tasks.quadratic(size=3),
        {"mine": optax.sgd(0.5)},
        horizons=(5, 10, 20),
        num_seeds=1,
        baselines=("momentum",),
        learning_rates=(0.1, 0.3, 1.0),
    )
    assert [judged.baselines[0].at_edge for judged in found.values()] == [True, False, True]
    assert not any(judged.contenders[0].at_edge for judged in found.values())


def _conflict():
    """Labels of every other held-out example, those to choose by, are wrong; the others are those of training."""
    x = np.random.default_rng(0).choice([-1.0, 1.0], (16, 1)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    mixed = np.where(np.arange(16) % 2 == 0, 1 - y, y)
    return tasks.softmax_regression("conflict", Dataset(x, y, x, mixed), batch_size=16)


def test_chosen_on_one_half_and_reported_on_the_other(monkeypatch, tmp_path):
    """By training loss the high rate is best. By held-out loss on the first half, the low rate does less harm."""
    monkeypatch.setattr(bench, "NUM_MARKS", 4)
    task, rates = _conflict(), (1e-3, 1.0)
    judge = lambda halves: protocol.judge(
        task,
        {"mine": optax.sgd(0.5)},
        horizons=(10, 20),
        num_seeds=2,
        baselines=("momentum",),
        learning_rates=rates,
        halves=halves,
        cache=tmp_path,
    )
    whole, found = judge(False), judge(True)
    names = ["SGD, momentum .9 1 (tuned)", "SGD, momentum .9 0.001 (tuned, held out)"]
    for steps, judged in found.items():
        assert [result.optimizer for result in judged.baselines] == names
        assert judged.baselines[1].plain_name == "SGD, momentum .9 (tuned, held out)"
        by_training, by_held_out = judged.baselines
        assert np.all(by_training.held_out_losses < 0.2)  # of the half with the right labels
        assert np.all(by_training.errors == 0)
        assert by_held_out.held_out_losses.mean() > 2 * by_training.held_out_losses.mean()
        alone = evaluate.run(task, optax.sgd(1.0, momentum=0.9), num_steps=steps, num_seeds=2)
        np.testing.assert_allclose(alone.errors, 0.5)
        for result in (*judged.contenders, *judged.baselines):
            assert list(result.along.marks) == [steps // 4, steps // 2, steps * 3 // 4, steps]
            np.testing.assert_array_equal(result.along.held_out["loss"][-1], result.held_out["loss"])
            assert np.all(result.best_held_out_losses == result.along.held_out["loss"].min(axis=0))
        assert [result.optimizer for result in whole[steps].baselines] == names[:1]
        assert whole[steps].baselines[0].along is None
        np.testing.assert_allclose(whole[steps].baselines[0].errors, 0.5)
        np.testing.assert_array_equal(whole[steps].baselines[0].losses, by_training.losses)

    monkeypatch.setattr(evaluate, "measure", lambda program, **rest: pytest.fail("a baseline ran again"))
    monkeypatch.setattr(tuning, "choose", lambda program, *rest: pytest.fail("a baseline was tuned again"))
    for halves, before in ((False, whole), (True, found)):
        again = protocol.judge(
            task,
            {},
            horizons=(10, 20),
            num_seeds=2,
            baselines=("momentum",),
            learning_rates=rates,
            halves=halves,
            cache=tmp_path,
        )
        for one, other in zip(again[20].baselines, before[20].baselines, strict=True):
            np.testing.assert_array_equal(one.held_out["loss"], other.held_out["loss"])
            assert one.optimizer == other.optimizer
