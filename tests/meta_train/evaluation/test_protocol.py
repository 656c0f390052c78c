"""The protocol: what is run, that rates are tuned, and that what was done is not done again."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import tasks
from meta_train.data import Dataset
from meta_train.evaluation import evaluate
from meta_train.evaluation import protocol
from meta_train.evaluation import scores
from meta_train.evaluation import tuning
from meta_train.evaluation.baselines import BASELINES

pytestmark = pytest.mark.optax_promotion


TASK = tasks.quadratic(size=3)


@pytest.fixture
def small_grid(monkeypatch):
    monkeypatch.setattr(tuning, "LEARNING_RATES", (1e-4, 0.1))


@pytest.fixture
def runs(monkeypatch):
    """What is run, as it is run: marks, the number of steps told, and the rate."""
    made, original = [], evaluate.measure

    def spy(program, *, marks, num_steps, hyperparameters=0.0, **rest):
        made.append((marks, num_steps, hyperparameters))
        return original(program, marks=marks, num_steps=num_steps, hyperparameters=hyperparameters, **rest)

    monkeypatch.setattr(evaluate, "measure", spy)
    return made


def test_a_contender_that_is_a_baseline_needs_as_many_steps(small_grid):
    """Beside itself: the same losses, and a speedup of 1, at every horizon."""
    lines = []
    contenders = {"twin": optax.adam(0.1), "still": optax.sgd(0.0)}
    found = protocol.judge(
        TASK, contenders, horizons=(40, 20), num_seeds=2, baselines=("adam", "adam-1e-3"), progress=lines.append
    )
    assert list(found) == [20, 40]
    for steps, judged in found.items():
        assert [result.optimizer for result in judged.contenders] == ["twin", "still"]
        assert [result.optimizer for result in judged.baselines] == ["Adam 0.1 (tuned)", "Adam 1e-3"]
        assert [result.plain_name for result in judged.baselines] == ["Adam (tuned)", "Adam 1e-3"]
        assert judged.contenders[0].losses.shape == (2, steps)
        np.testing.assert_allclose(judged.contenders[0].losses, judged.baselines[0].losses, rtol=1e-4)
        np.testing.assert_allclose(judged.speedups["adam"], [[1.0, 1.0], [0.25, 0.25]], rtol=1e-4)
        assert list(judged.speedups) == ["adam"]
        assert judged.contenders[0].state_bytes == 4 + 2 * 3 * 4  # a counter and two moments
        assert judged.contenders[0].step_milliseconds > 0
    assert all("quadratic" in line for line in lines)


def test_one_run_serves_all_horizons_of_an_optimizer_that_is_not_told(small_grid, runs):
    """Held-out metrics are those at the horizon; a pacemaker goes on to the end of the longest ladder."""
    found = protocol.judge(TASK, {"sgd": optax.sgd(0.1)}, horizons=(10, 20), num_seeds=2, baselines=("adam", "prodigy"))
    assert runs == [((10, 20), 20, 0.0), ((10, 20, 80), 80, 0.1), ((10, 20), 20, 0.0)]
    for steps, judged in found.items():
        for result, tx in ((judged.contenders[0], optax.sgd(0.1)), (judged.baselines[0], optax.adam(0.1))):
            alone = evaluate.run(TASK, tx, num_steps=steps, num_seeds=2)
            np.testing.assert_allclose(result.losses, alone.losses, rtol=1e-3)
            np.testing.assert_allclose(result.held_out["loss"], alone.held_out["loss"], rtol=1e-3)


def test_horizons_with_rates_of_their_own_have_runs_of_their_own(monkeypatch, runs):
    monkeypatch.setattr(tuning, "LEARNING_RATES", (0.1, 0.3))
    chosen = {5: tuning.Choice(1, None), 10: tuning.Choice(0, None), 20: tuning.Choice(1, None)}
    monkeypatch.setattr(tuning, "choose", lambda program, candidates, **rest: chosen)
    found = protocol.judge(
        TASK, {"sgd": optax.sgd(0.1)}, horizons=(5, 10, 20), num_seeds=2, baselines=("adam", "momentum")
    )
    assert runs[1:] == [
        *[((5, 20, 80), 80, 0.3), ((10, 40), 40, 0.1)],
        *[((5, 20), 20, 0.3), ((10,), 10, 0.1)],
    ]
    assert [judged.baselines[0].learning_rate for judged in found.values()] == [0.3, 0.1, 0.3]
    for steps, judged in found.items():
        rate = judged.baselines[0].learning_rate
        rungs = [evaluate.run(TASK, optax.adam(rate), num_steps=steps * k // 4, num_seeds=2) for k in (1, 2, 4, 8, 16)]
        finals = np.stack([rung.final_losses for rung in rungs])
        expected = scores.speedup(judged.contenders[0].final_losses, finals)
        np.testing.assert_allclose(judged.speedups["adam"][0], expected, rtol=1e-2)


def test_without_pacemakers_there_are_no_speedups_and_no_longer_runs(small_grid, runs):
    judged = protocol.judge(TASK, {"still": optax.sgd(0.0)}, horizons=(20,), baselines=("adam",), pacemakers=())
    assert judged[20].speedups == {}
    assert runs == [((20,), 20, 0.0), ((20,), 20, 0.1)]


def test_a_schedule_is_run_anew_for_each_horizon(small_grid, runs):
    """But none twice."""
    twin = {"twin": lambda num_steps: BASELINES["adamw-cosine"].make(0.1, num_steps)}
    found = protocol.judge(TASK, twin, horizons=(20, 40), num_seeds=2, baselines=("adamw-cosine",))
    assert [(marks, told) for marks, told, _ in runs] == [
        ((steps,), steps) for steps in (20, 40, 20, 5, 10, 40, 80, 160)
    ]
    for judged in found.values():
        np.testing.assert_allclose(judged.contenders[0].losses, judged.baselines[0].losses, rtol=1e-4)
        np.testing.assert_allclose(judged.speedups["adamw-cosine"], [[1.0, 1.0]], rtol=1e-4)
    beginning = found[40].contenders[0].losses[:, :20]
    assert not np.allclose(found[20].contenders[0].losses, beginning, rtol=1e-3)


def test_what_was_done_is_found_again_and_nothing_else(small_grid, monkeypatch, tmp_path):
    task = tasks.softmax_regression("tiny", _dataset(0))
    judge = lambda task, **changes: protocol.judge(
        task, {}, **{"horizons": (2, 3), "num_seeds": 2, "baselines": ("momentum",), "cache": tmp_path, **changes}
    )
    first = judge(task)
    assert len(list(tmp_path.iterdir())) == 2  # the rates, and the runs at them
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "measure", None)
        patch.setattr(tuning, "choose", None)
        again = judge(task)
    for steps in (2, 3):
        one, other = first[steps].baselines[0], again[steps].baselines[0]
        np.testing.assert_array_equal(one.losses, other.losses)
        np.testing.assert_array_equal(one.held_out["loss"], other.held_out["loss"])
        assert one._replace(losses=0, held_out=0) == other._replace(losses=0, held_out=0)
    judge(task, horizons=(2, 4))
    judge(task, horizons=(3,))
    judge(task, num_seeds=3)  # no more seeds than lanes: the same program, and the same rates
    judge(tasks.softmax_regression("tiny", _dataset(1)))  # other data in the same program
    judge(tasks.softmax_regression("tiny", _dataset(0), batch_size=7))
    assert len(list(tmp_path.iterdir())) == 2 + 2 + 2 + 1 + 2 + 2
    assert not list(tmp_path.glob("*.tmp"))


def _dataset(seed):
    random = np.random.default_rng(seed)
    x, y = random.random((8, 2), np.float32), np.arange(8, dtype=np.int32) % 2
    return Dataset(x, y, x, y)


def test_losses_are_judged_where_the_baseline_says():
    (judged,) = protocol.judge(TASK, {}, horizons=(5,), num_seeds=2, baselines=("schedule-free",)).values()
    plain = evaluate.run(TASK, optax.contrib.schedule_free_adamw(), num_steps=5, num_seeds=2)
    np.testing.assert_allclose(judged.baselines[0].losses[:, 0], plain.losses[:, 0], rtol=1e-6)
    assert np.all(judged.baselines[0].held_out["loss"] > plain.held_out["loss"])  # the average lags behind
    assert not jnp.allclose(judged.baselines[0].losses[:, -1], plain.losses[:, -1], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"baselines": ("adma",)}, r"no baseline 'adma'\. Did you mean 'adam'\? Choose from adam, adamw-cosine"),
        ({"horizons": ()}, r"at least 1, got \(\) and 1"),
        ({"horizons": (5, 0)}, r"at least 1, got \(5, 0\) and 1"),
        ({"num_seeds": 0}, r"at least 1, got \(1,\) and 0"),
    ],
)
def test_what_cannot_be_judged(arguments, hint):
    with pytest.raises(ValueError, match=hint):
        protocol.judge(TASK, {}, **{"horizons": (1,), "num_seeds": 1, **arguments})
