"""`meta-train compare`: optimizers by all their names, and what is refused before any work."""

import json

import pytest

from meta_train.cli import compare as command
from meta_train.evaluation import budget
from meta_train.evaluation import tuning


@pytest.mark.optax_promotion
def test_the_folder_of_a_run_stands_for_its_theta(run, sgd, cache, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tuning, "LEARNING_RATES", (1e-3, 1e-1))
    (tmp_path / "a run").mkdir()
    sgd.rename(tmp_path / "a run" / "theta.safetensors")
    out = tmp_path / "new" / "curves.png"
    arguments = ("--task", "quadratic", "--steps", 1, "--seeds", 1, "--out", out)
    assert run("compare", tmp_path / "a run", *arguments) == 0
    output = capsys.readouterr().out
    assert f"{tmp_path / 'a run'}  " in output
    assert "\nquadratic, 1 step, 1 seed\n" in output
    assert "1 step: " in output and "on 1 task\n  at or below   training loss  held-out loss\n  Adam 1e-3" in output
    assert out.stat().st_size > 10_000


@pytest.mark.optax_promotion
def test_a_model_of_ones_own(run, sgd, cache, model, tmp_path, capsys):
    """The loss, (w₁ + w₂)², falls to (1 - 4 · 0.1)² of itself by a step of gradient descent, and by less with Adam."""
    arguments = ("--steps", 2, "--seeds", 1, "--baseline", "adam-1e-3", "--out", tmp_path / "curves.png")
    assert run("compare", sgd, "--task", model(), *arguments) == 0
    output = capsys.readouterr()
    assert "mine: 2 parameters, examples to train on: 6; without held_out(key), held-out metrics are" in output.err
    assert "\nmine, 2 steps, 1 seed\noptimizer" in output.out
    rows = [
        line.removeprefix(str(sgd)).split()
        for line in output.out.splitlines()
        if line.startswith((str(sgd), "Adam 1e-3"))
    ]
    assert rows == [["1.440", f"{4 * 0.6**4:.3f}"], ["Adam", "1e-3", "3.992", "3.984"]]
    header, counts = "  at or below  training loss  held-out loss", f"  Adam 1e-3    {1:<13}  1"
    assert f"2 steps: {sgd} on 1 task\n{header}\n{counts}\n" in output.out
    assert (tmp_path / "curves.png").stat().st_size > 10_000


@pytest.mark.optax_promotion
def test_halves_and_seconds(run, sgd, cache, model, tmp_path, capsys):
    """Columns for the best held-out loss, and for steps and seconds to the loss with which Adam ends."""
    arguments = ("--steps", 2, "--seeds", 1, "--baseline", "adam-1e-3", "--out", tmp_path / "curves.png")
    assert run("compare", sgd, "--task", model(), *arguments, "--halves", "--seconds") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  at or below  training loss  held-out loss  best held-out loss" in lines
    (header,) = [line for line in lines if line.startswith("Time to target")]
    for part in ("steps to training loss 3.99", "seconds to training loss", "seconds to held-out loss 3.98"):
        assert part in header
    mine, adam = lines[lines.index(header) + 1 :][:2]
    assert (mine.split()[0], mine.split()[1], adam.split()[:3]) == (str(sgd), "1.003", ["Adam", "1e-3", "2"])
    (header,) = [line for line in lines if "ms a step  seconds to compile" in line]
    assert [line.split()[0] for line in lines[lines.index(header) + 1 :][:2]] == [str(sgd), "Adam"]


@pytest.mark.parametrize(
    ("old", "new", "hints"),
    [
        (
            "jnp.mean(",
            "jnp.men(",
            ['mine.py", line 14, in loss', "AttributeError: module 'jax.numpy' has no attribute"],
        ),
        ("def loss", "def lost", ["mine.py must define loss. Did you mean 'lost'?"]),
        ("data = np.ones((6, 2))", "batches = lambda key: []", ["mine: batch_size goes with data"]),
        ("data = np.ones((6, 2))\nbatch_size = 2", "batches = lambda key: []", ["must give at least one batch"]),
        ("jnp.ones(2)", "jnp.full(2, jnp.nan)", ["mine: init(key) must give finite parameters, got nan in params"]),
        ("data = np", "import sys; sys.exit('why'); data = np", ['mine.py", line 5, in <module>', "SystemExit: why"]),
    ],
)
def test_a_file_that_is_refused_before_any_work(old, new, hints, run, sgd, model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "judge_suite", None)
    assert run("compare", sgd, "--task", model(old, new), "--out", tmp_path / "curves.png") == 2
    error = capsys.readouterr().err
    assert all(hint in error for hint in hints)
    assert "meta_train/" not in error and "jax/" not in error


@pytest.mark.optax_promotion
def test_an_error_in_the_file_during_the_comparison_shows_its_line(run, sgd, cache, model, tmp_path, capsys):
    path = model("traces.append(0)", "traces.append(1 // (len(traces) < 4))")
    arguments = ("--steps", 2, "--seeds", 1, "--baseline", "adam-1e-3", "--out", tmp_path / "curves.png")
    assert run("compare", sgd, "--task", path, *arguments) == 2
    error = capsys.readouterr().err
    assert 'mine.py", line 13, in loss\n' in error and error.endswith(
        "ZeroDivisionError: integer division or modulo by zero\n"
    )
    assert "meta_train/" not in error


def test_minutes_choose_what_is_not_given(run, sgd, model, tmp_path, capsys, monkeypatch):
    asked = {}
    monkeypatch.setattr(budget, "calibrate", lambda task, make: budget.Pace(1.0, 1e-3, 0.0))
    monkeypatch.setattr(command, "judge_suite", lambda chosen, contenders, **rest: asked.update(rest) or {})
    run("compare", sgd, "--task", model(), "--minutes", 3, "--seeds", 4, "--out", tmp_path / "curves.png")
    assert (asked["num_seeds"], len(asked["learning_rates"]), asked["horizons"]) == (4, 10, (1000,))
    assert asked["baselines"] == ("adamw-cosine", "muon", "adam", "schedule-free", "prodigy")
    assert asked["pacemakers"] == ()
    error = capsys.readouterr().err
    assert "Chosen for --minutes 3: 1,000 steps, 4 seeds, baselines tuned over 10 learning rates, no speedups." in error
    assert run("compare", sgd, "--task", model(), "--minutes", 0.1, "--out", tmp_path / "curves.png") == 2
    assert "--minutes 0.1 is too little: the smallest comparison, 50 steps" in capsys.readouterr().err
    assert run("compare", sgd, "--task", model(), "--out", tmp_path / "curves.png") == 0
    assert (asked["num_seeds"], asked["horizons"], asked["pacemakers"]) == (5, (500,), ("adam", "adamw-cosine"))


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["nope.safetensors"], "there is no file or folder nope.safetensors. Give a released name"),
        (["default", "--task", "none.py"], "there is no file none.py."),
        (["default", "--baseline", "adamm"], "no baseline 'adamm'. Did you mean 'adam'?"),
        (["default", "--task", "digits-mlpp"], "no task 'digits-mlpp'. Did you mean 'digits-mlp'? Choose from"),
        (["default", "--out", "curves.doc"], "must be a file that ends with .png or .pdf or .svg, got curves.doc"),
        (["default", "--out", "."], "--out must be a file that ends with"),
        (["default", "--out", "folder.png"], "--out must be a file, got the folder folder.png"),
        (["default", "--steps", "x"], "Invalid value for '--steps'"),
    ],
)
def test_refused_before_any_work(arguments, hint, run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "judge_suite", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    assert run("compare", *arguments) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.optax_promotion
def test_for_machines_there_is_json_and_nothing_else(run, sgd, cache, model, tmp_path, capsys):
    arguments = ("--steps", 2, "--seeds", 1, "--baseline", "adam-1e-3", "--out", tmp_path / "curves.png")
    assert run("compare", sgd, sgd, "--task", model(), *arguments, "--quiet", "--json") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    found = json.loads(captured.out)
    assert (found["title"], found["files"]) == ("mine", [str(tmp_path / "curves.png")])
    assert [each["optimizer"] for each in found["horizons"]["2"]["verdicts"]] == [str(sgd)]
    assert len(found["horizons"]["2"]["tasks"]["mine"]) == 2
