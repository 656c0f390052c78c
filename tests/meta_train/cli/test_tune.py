"""`meta-train tune`: what it asks for, what it prints, and what is refused before minutes are spent."""

import json

import pytest

from meta_train.adaptation import opening
from meta_train.tuning import tune as tuning

REPORT = {
    "task": "mine",
    "gain": True,
    "objective": "training",
    "num_steps": 30,
    "has_held_out": False,
    "folder": "some folder",
    "constants": {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0, "tried": 100, "at_edge": False},
    "table": "the table",
    "verdict": {"change": -0.5, "error": 0.1, "schedules_steps": 20.0, "constants_steps": 30.0},
}


@pytest.fixture
def asked(monkeypatch):
    """What the command asks for; no work is done."""
    asked = {}

    def fake(task, **arguments):
        asked.update(arguments, task=task)
        arguments["progress"]("a line about the work")
        return tuning.Tuned(None, None, 30, REPORT)

    monkeypatch.setattr(tuning, "tune", fake)
    return asked


def test_the_outcome_and_the_optax_code(run, asked, model, tmp_path, capsys):
    path = model()
    assert run("tune", path, "--minutes", 3, "--steps", 30, "--blocks", 5, "--out", tmp_path / "out") == 0
    assert asked["task"] == str(path) and asked["out"] == tmp_path / "out"
    assert (asked["minutes"], asked["num_steps"], asked["num_blocks"], asked["objective"]) == (3.0, 30, 5, None)
    assert asked["way"] == "backprop" and asked["command"].startswith(f"python -m meta_train tune {path} --minutes 3")
    output = capsys.readouterr()
    assert "a line about the work" in output.err
    assert output.out.startswith("the table\n\nThe schedules end at 0.607 times the training loss")
    assert "optax.inject_hyperparams(optax.sgd)" in output.out


def test_json_quiet_and_forward(run, asked, tmp_path, capsys):
    assert run("tune", "quadratic", "--json", "--quiet", "--forward", "--resume", "--out", tmp_path / "out") == 0
    output = capsys.readouterr()
    assert json.loads(output.out) == REPORT and output.err == ""
    assert asked["task"].name == "quadratic" and asked["way"] == "forward" and asked["resume"]


def test_ctrl_c_says_how_to_go_on(run, monkeypatch, model, tmp_path, capsys):
    def stopped(task, **arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "tune", stopped)
    assert run("tune", model(), "--out", tmp_path / "out") == 130
    assert "Stopped. Go on with the same command and --resume" in capsys.readouterr().err


def test_a_model_that_is_refused_before_any_minutes(run, model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tuning, "_work", None)
    path = model("(batch @ params) ** 2", "jnp.round(batch @ params) + 1")
    assert run("tune", path, "--out", tmp_path / "out") == 2
    assert "mine: the gradient of loss must not be zero" in capsys.readouterr().err
    assert run("tune", model(), "--blocks", 2000, "--out", tmp_path / "out") == 2
    assert "num_blocks must lie between 1 and the number of steps, 1000, got 2000" in capsys.readouterr().err
    assert not (tmp_path / "out" / opening.JOURNAL_FILE).exists()
