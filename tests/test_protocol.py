"""The protocol: what is run, that rates are tuned, and that what was done is not done again."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import evaluate
from meta_train import protocol
from meta_train import tasks
from meta_train.baselines import BASELINES
from meta_train.data import Dataset

pytestmark = pytest.mark.optax_promotion


@pytest.fixture
def small_grid(monkeypatch):
    monkeypatch.setattr(evaluate, "LEARNING_RATES", (1e-4, 0.1))


def test_a_contender_that_is_a_baseline_needs_as_many_steps(small_grid):
    """Beside itself: the same losses, and a speedup of 1."""
    task = tasks.quadratic(size=3)
    lines = []
    contenders = {"twin": optax.adam(0.1), "still": optax.sgd(0.0)}
    judged = protocol.judge(
        task, contenders, num_steps=40, num_seeds=2, baselines=("adam", "adam-1e-3"), progress=lines.append
    )
    assert [result.optimizer for result in judged.contenders] == ["twin", "still"]
    assert [result.optimizer for result in judged.baselines] == ["Adam 0.1 (tuned)", "Adam 1e-3"]
    assert [result.plain_name for result in judged.baselines] == ["Adam (tuned)", "Adam 1e-3"]
    np.testing.assert_array_equal(judged.contenders[0].losses, judged.baselines[0].losses)
    np.testing.assert_allclose(judged.speedups["adam"], [[1.0, 1.0], [0.25, 0.25]], rtol=1e-5)
    assert list(judged.speedups) == ["adam"]
    assert judged.contenders[0].state_bytes == 4 + 2 * 3 * 4  # a counter and two moments
    assert judged.contenders[0].step_milliseconds > 0
    assert all("quadratic" in line for line in lines)


def test_a_schedule_is_run_anew_for_each_horizon(small_grid, monkeypatch):
    """But for the horizon that it was run for already."""
    made, original = [], evaluate.run
    spy = lambda *args, num_steps, **rest: made.append(num_steps) or original(*args, num_steps=num_steps, **rest)
    monkeypatch.setattr(evaluate, "run", spy)
    twin = {"twin": BASELINES["adamw-cosine"].make(0.1, 20)}
    judged = protocol.judge(tasks.quadratic(size=3), twin, num_steps=20, num_seeds=2, baselines=("adamw-cosine",))
    assert made == [20, 20, 5, 10, 40, 80]
    np.testing.assert_allclose(judged.speedups["adamw-cosine"], [[1.0, 1.0]], rtol=1e-5)


def test_what_was_done_is_found_again_and_nothing_else(small_grid, monkeypatch, tmp_path):
    task = tasks.softmax_regression("tiny", _dataset(0))
    judge = lambda task, **changes: protocol.judge(
        task, {}, **{"num_steps": 3, "num_seeds": 2, "baselines": ("momentum",), "cache": tmp_path, **changes}
    )
    first = judge(task)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert len(made) == 2  # the rate, and the runs at it
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "run", None)
        patch.setattr(evaluate, "tune", None)
        again = judge(task)
    np.testing.assert_array_equal(first.baselines[0].losses, again.baselines[0].losses)
    np.testing.assert_array_equal(first.baselines[0].held_out["loss"], again.baselines[0].held_out["loss"])
    assert first.baselines[0]._replace(losses=0, held_out=0) == again.baselines[0]._replace(losses=0, held_out=0)
    for changed in ({"num_steps": 4}, {"num_seeds": 3}):
        judge(task, **changed)
    judge(tasks.softmax_regression("tiny", _dataset(1)))  # other data in the same program
    judge(tasks.softmax_regression("tiny", _dataset(0), batch_size=7))
    assert len(list(tmp_path.iterdir())) == len(made) + 2 + 1 + 2 + 2  # other seeds need no other rate
    assert not list(tmp_path.glob("*.tmp"))


def _dataset(seed):
    random = np.random.default_rng(seed)
    x, y = random.random((8, 2), np.float32), np.arange(8, dtype=np.int32) % 2
    return Dataset(x, y, x, y)


def test_losses_are_judged_where_the_baseline_says(small_grid):
    judged = protocol.judge(tasks.quadratic(size=2), {}, num_steps=5, num_seeds=2, baselines=("schedule-free",))
    plain = evaluate.run(tasks.quadratic(size=2), optax.contrib.schedule_free_adamw(), num_steps=5, num_seeds=2)
    np.testing.assert_allclose(judged.baselines[0].losses[:, 0], plain.losses[:, 0], rtol=1e-6)
    assert np.all(judged.baselines[0].held_out["loss"] > plain.held_out["loss"])  # the average lags behind
    assert not jnp.allclose(judged.baselines[0].losses[:, -1], plain.losses[:, -1], rtol=1e-6)


def test_an_unknown_baseline():
    with pytest.raises(ValueError, match=r"no baseline 'adma'\. Choose from adam, adamw-cosine"):
        protocol.judge(tasks.quadratic(size=2), {}, num_steps=1, num_seeds=1, baselines=("adma",))
