"""From a model to its schedules: all phases, at a size that compiles quickly."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import meta_train
from meta_train import tasks
from meta_train.adaptation import calibration
from meta_train.adaptation import choice
from meta_train.tuning import descent
from meta_train.tuning import grid
from meta_train.tuning import tune as tuning

X = np.linspace(-1.0, 1.0, 40, dtype=np.float32)


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(calibration, "widths", lambda *arguments, **options: (4,))
    monkeypatch.setattr(descent, "MOST", 24)


def noisy_line():
    """Many lines through noisy points: rates that are fast at first leave noise at the end, unless they fall."""
    noise = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)
    return tasks.from_functions(
        "line",
        init=lambda key: {"w": 5.0 + jax.random.normal(key, (50,))},
        loss=lambda params, batch, key: ((batch["x"] * params["w"] - batch["y"]) ** 2).sum(axis=-1).mean() + 1e-3,
        data={"x": X[:, None], "y": 3.0 * X[:, None] + 2.0 * noise},
        batch_size=2,
        held_out=lambda key: {"x": X[:, None], "y": 3.0 * X[:, None] + np.zeros((1, 50), np.float32)},
    )


ARGUMENTS = {"minutes": 3.0, "num_steps": 30, "num_blocks": 3}


def test_all_phases_and_a_run_that_was_stopped_before_the_choice(tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "settings", lambda number: [grid.Setting(rate, 0.0, 0.0) for rate in (0.1, 0.3, 1.0)])
    out, lines = tmp_path / "mine", []
    with monkeypatch.context() as patch:
        patch.setattr(choice, "measured", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            meta_train.tune(noisy_line(), out=out, **ARGUMENTS)
    before = (out / "journal.jsonl").read_text(encoding="utf-8")
    tuned = meta_train.tune(noisy_line(), out=out, resume=True, progress=lines.append, **ARGUMENTS)
    after = (out / "journal.jsonl").read_text(encoding="utf-8")
    assert after.startswith(before) and after.count("\n") == before.count("\n") + 1  # the choice alone was missing
    report = tuned.report
    assert report["objective"] == "held-out" and report["hypergradients"]["steps"] == 24
    assert report["constants"]["tried"] == 3 and len(report["choice"]) == 4
    assert json.loads((out / "report.json").read_text(encoding="utf-8")) == report
    assert (out / "schedule.json").exists() == report["gain"]
    assert report["gain"] and report["verdict"]["change"] < -0.05
    rates = tuned.schedules.learning_rate
    assert rates[-1] < rates[0] / 1.2
    params = {"w": jnp.ones(())}
    tx = tuned.transform()
    updates, _ = tx.update(params, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], -rates[0] * (1 + tuned.schedules.weight_decay[0]), rtol=1e-5)
    with pytest.raises(ValueError, match="holds a tuning already"):
        meta_train.tune(noisy_line(), out=out, **ARGUMENTS)


def test_no_gain_keeps_the_constants(tmp_path, monkeypatch):
    """What the choice finds worse is not taken, whatever the descent thought of it."""
    monkeypatch.setattr(grid, "settings", lambda number: [grid.Setting(rate, 0.0, 0.0) for rate in (0.1, 0.3, 1.0)])
    monkeypatch.setattr(descent, "MOST", 1)
    measured = choice.measured
    monkeypatch.setattr(choice, "measured", lambda *arguments: measured(*arguments) + np.array([[0.0], [9.0]]))
    tuned = meta_train.tune(noisy_line(), out=tmp_path, **ARGUMENTS)
    assert not tuned.report["gain"] and not (tmp_path / "schedule.json").exists()
    np.testing.assert_allclose(tuned.schedules.learning_rate, tuned.report["constants"]["learning_rate"], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"minutes": 0.0}, "minutes must be positive, got 0.0"),
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"num_blocks": 31}, "num_blocks must lie between 1 and the number of steps, 30, got 31"),
        ({"objective": "held out"}, "objective must be 'held-out' or 'training', got 'held out'"),
        ({"way": "sideways"}, "way must be 'backprop' or 'forward', got 'sideways'"),
    ],
)
def test_arguments_out_of_range(arguments, hint, monkeypatch):
    monkeypatch.setattr(tuning, "_work", None)
    with pytest.raises(ValueError, match=hint):
        meta_train.tune(noisy_line(), **{**ARGUMENTS, **arguments})
