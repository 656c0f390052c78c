"""`meta-train adapt`: what it prints and writes, and what is refused before minutes are spent."""

import json

import jax.numpy as jnp
import pytest

from meta_train.adaptation import adapt as adaptation
from meta_train.adaptation import opening
from meta_train.cli import adapt as command

REPORT = {
    "task": "mine",
    "gain": True,
    "objective": "training",
    "num_steps": 30,
    "folder": "some folder",
    "table": "the table",
    "plan": {"size": {"rungs": [0.5, 0.75]}},
    "verdict": {
        "change": -0.5,
        "error": 0.1,
        "adapted_steps": 20.0,
        "default_steps": 30.0,
        "speedup": 1.5,
        "default_told_steps": 30.0,
        "adapted_told_steps": 22.0,
    },
}


@pytest.fixture
def asked(monkeypatch):
    """What the command asks for; no work is done."""
    asked = {}

    def fake(task, **arguments):
        asked.update(arguments, task=task)
        arguments["progress"]("a line about the work")
        return adaptation.Adapted(None, {"w": jnp.zeros(())}, REPORT)

    monkeypatch.setattr(adaptation, "adapt", fake)
    return asked


def test_the_outcome_and_three_lines_of_code(run, asked, model, tmp_path, capsys):
    path = model()
    assert run("adapt", path, "--minutes", 3, "--steps", 30, "--out", tmp_path / "out", "--no-rivals") == 0
    assert asked["task"] == str(path) and asked["out"] == tmp_path / "out"
    assert (asked["minutes"], asked["num_steps"], asked["rivals"], asked["objective"]) == (3.0, 30, (), None)
    assert (
        asked["command"]
        == f"python -m meta_train adapt {path} --minutes 3 --steps 30 --out {tmp_path / 'out'} --no-rivals"
    )
    output = capsys.readouterr()
    assert "a line about the work" in output.err
    assert output.out.startswith(
        "the table\n\nThe adapted optimizer ends at 0.607 times the training loss of the default"
    )
    assert "of the default (0.549 to 0.67, a standard error either way). To end at that" in output.out
    assert "told 22 steps, the default 30 steps: 1.50 times as fast. On the way of a whole" in output.out
    assert "it is there after 20 steps, the default after 30." in output.out
    assert 'tx = learned_optimizer("some folder", num_steps=30)\n' in output.out


def test_a_single_step_is_no_steps(run, asked, monkeypatch, tmp_path, model, capsys):
    steps = dict.fromkeys(("adapted_steps", "default_steps", "adapted_told_steps", "default_told_steps"), 1.0)
    monkeypatch.setitem(REPORT, "num_steps", 1)
    monkeypatch.setitem(REPORT, "verdict", REPORT["verdict"] | steps)
    assert run("adapt", model(), "--out", tmp_path / "out") == 0
    output = capsys.readouterr().out
    assert "at most 1 step, the default" in output and "there after 1 step, the default after 1." in output


def test_no_gain_is_said(run, asked, monkeypatch, tmp_path, model, capsys):
    monkeypatch.setitem(REPORT, "gain", False)
    assert run("adapt", model(), "--out", tmp_path / "out") == 0
    output = capsys.readouterr().out
    assert output.endswith("No gain: keep the default.\n") and "learned_optimizer(" not in output


def test_json_and_quiet(run, asked, tmp_path, capsys):
    arguments = ("--json", "--quiet", "--resume", "--objective", "held-out", "--out", tmp_path / "out")
    assert run("adapt", "quadratic", *arguments) == 0
    output = capsys.readouterr()
    assert json.loads(output.out) == REPORT and output.err == ""
    assert asked["task"].name == "quadratic" and asked["quiet"] and asked["resume"]
    assert (asked["objective"], asked["rivals"]) == ("held-out", ("adamw-cosine", "muon"))


def test_ctrl_c_says_how_to_go_on(run, monkeypatch, model, tmp_path, capsys):
    def stopped(task, **arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(adaptation, "adapt", stopped)
    assert run("adapt", model(), "--out", tmp_path / "out") == 130
    assert "Stopped. Go on with the same command and --resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "hints"),
    [
        ("(batch @ params) ** 2", "jnp.round(batch @ params) + 1", ["mine: the gradient of loss must not be zero"]),
        ("(batch @ params) ** 2", "jnp.log(-(batch @ params))", ["mine: loss(params, batch, key) must be finite"]),
        (
            "jnp.mean((batch @ params) ** 2)",
            "batch @ params",
            ["must return one floating-point number, got float32[2]"],
        ),
        (
            "return jnp.mean((batch @ params) ** 2)",
            "return jnp.mean((batch @ params) ** 2), {}",
            ["mine: loss", "a tuple"],
        ),
        ("return jnp.ones(2)", "return jnp.ones(2, int)", ["mine: init(key) must return floating", "got int32[2]"]),
        ("return jnp.ones(2)", "return jnp.ones((2, 0))", ["mine: init(key) must return parameters to train"]),
        ("return jnp.ones(2)", "return {}", ["mine: init(key) must return a pytree", "no array"]),
        ("(batch @ params) ** 2", "params[0] if params[0] > 0 else params[1]", ['mine.py", line 14, in loss', "bool"]),
        (
            "data = np.ones((6, 2))\nbatch_size = 2",
            "once = iter([np.ones((3, 2))])\nbatches = lambda key: once",
            ["mine: batches(key) must begin a new pass over the data at every call"],
        ),
        (
            "data = np.ones((6, 2))\nbatch_size = 2",
            "batches = lambda key: [np.ones((3, 2)), np.ones((2, 2))]",
            ["batch 2 has float32[2, 2] and the first one float32[3, 2]", "leave it out"],
        ),
        ("batch @ params", "batch.T @ params", ['mine.py", line 14, in loss', "TypeError: dot_general requires"]),
        ("data = np.ones((6, 2))\nbatch_size = 2", "batches = lambda key: []", ["must give at least one batch"]),
    ],
)
def test_a_model_that_is_refused_before_any_minutes(old, new, hints, run, model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(adaptation, "_work", None)
    assert run("adapt", model(old, new), "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert all(hint in error for hint in hints)
    assert "meta_train/" not in error and "jax/" not in error
    assert not (tmp_path / "out" / opening.JOURNAL_FILE).exists()


def test_help_names_the_folder(run, capsys):
    assert run("adapt", "--help") == 0
    assert "[default: runs/adapt/FILE]" in " ".join(capsys.readouterr().out.split())
    assert command.Objective("training") is command.Objective.TRAINING
