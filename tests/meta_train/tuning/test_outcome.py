"""What a tuning says: the optax code makes the steps of the schedules, and the files are those of the outcome."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import problems
from meta_train.evaluation.evaluate import Result
from meta_train.tuning import outcome
from meta_train.tuning.grid import Setting
from meta_train.tuning.scheduled_sgd import scheduled_sgd

THETA = problems.HyperTheta(jnp.log(jnp.array([0.1, 0.5])), jnp.array([0.0, 2.0]), jnp.log(jnp.array([0.2, 0.01])))
REPORT = {
    "task": "mine",
    "gain": True,
    "objective": "held-out",
    "num_steps": 4,
    "has_held_out": True,
    "constants": {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0, "tried": 100, "at_edge": False},
    "table": "the table",
    "verdict": {"change": -0.5, "error": 0.1, "schedules_steps": 3.0, "constants_steps": 4.0},
}


def _results():
    losses = np.linspace(2.0, 1.0, 4, dtype=np.float32)[None]
    return [Result(name, losses, {"loss": losses[:, -1]}) for name in ("constants", "schedules")]


def _run(code, params, num_steps):
    """The parameters after steps with the gradient 1, by code that defines `tx` and `state`."""
    names = {"params": params}
    exec(code, names)
    state = names["state"]
    for _ in range(num_steps):
        updates, state = names["tx"].update(jnp.ones(2), state, params)
        params = params + updates
    return params


@pytest.mark.optax_promotion
def test_the_code_makes_the_steps_of_the_schedules(tmp_path):
    values = problems.schedules(THETA)
    made = outcome.write(tmp_path, values, values, _results(), REPORT | {"folder": str(tmp_path)})
    assert [path.name for path in made] == ["schedule.json", "report.json", "schedule.png"]
    assert json.loads(made[0].read_text(encoding="utf-8"))["learning_rate"] == [0.1, 0.5]
    assert made[2].stat().st_size > 10_000
    tx, params = scheduled_sgd(2).transform(THETA, num_steps=4), jnp.array([1.0, -2.0])
    found = _run(outcome.schedule_code(str(tmp_path)), params, 6)  # two steps beyond the end
    state = tx.init(params)
    for _ in range(6):
        updates, state = tx.update(jnp.ones(2), state, params)
        params = params + updates
    np.testing.assert_allclose(found, params, rtol=1e-4)


@pytest.mark.optax_promotion
def test_without_a_gain_there_is_no_schedule_but_the_code_of_the_constants(tmp_path):
    values = jax.tree.map(np.asarray, problems.schedules(THETA))
    report = {**REPORT, "gain": False, "folder": str(tmp_path)}
    outcome.write(tmp_path, values, values, _results(), REPORT | {"folder": str(tmp_path)})
    made = outcome.write(tmp_path, values, values, _results(), report)
    assert [path.name for path in made] == ["report.json", "schedule.png"] and len(list(tmp_path.iterdir())) == 2
    text = outcome.as_text(report)
    assert "No gain: keep the constants." in text and "inject_hyperparams" not in text
    found = _run(outcome.constant_code(Setting(0.1, 0.5, 0.1)), jnp.ones(2), 2)
    np.testing.assert_allclose(found, 0.89 - 0.1 * (0.5 * 1.1 + 1.089), rtol=1e-6)


def test_the_report_is_written_last(monkeypatch, tmp_path):
    """A run that is stopped while it draws leaves no report, as if it were done."""

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(outcome, "plot", stopped)
    (tmp_path / outcome.REPORT_FILE).write_text("{}", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        outcome.write(tmp_path, None, None, [], REPORT)
    assert not list(tmp_path.iterdir())


def test_the_text_says_what_was_gained():
    text = outcome.as_text(REPORT | {"folder": "some folder"})
    assert text.startswith(
        "the table\n\nThe schedules end at 0.607 times the held-out loss (0.549 to 0.67, a standard error either way)"
    )
    assert "of the best of 100 constant settings. They reach the final loss of the constants in 3 steps" in text
    assert 'with open("some folder/schedule.json") as file' in text and "No gain" not in text
    edge = {**REPORT, "constants": {**REPORT["constants"], "at_edge": True}, "has_held_out": False, "folder": None}
    assert "constants beyond it may be better" in outcome.as_text(edge)
    assert "nothing is known of other examples" in outcome.as_text(edge)
