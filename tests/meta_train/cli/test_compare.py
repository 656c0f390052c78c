"""`meta-train compare`: optimizers by all their names, and what is refused before any work."""

import jax
import pytest

import learned_optim
from meta_train.evaluation import evaluate
from meta_train.evaluation import tuning


@pytest.mark.optax_promotion
def test_the_folder_of_a_run_stands_for_its_theta(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tuning, "LEARNING_RATES", (1e-3, 1e-1))
    optimizer = learned_optim.learned_sgd(0.1)
    learned_optim.save(tmp_path / "a run" / "theta.safetensors", optimizer, optimizer.init(jax.random.key(0)))
    out = tmp_path / "new" / "curves.png"
    arguments = ("--task", "quadratic", "--steps", 1, "--seeds", 1, "--out", out)
    assert run("compare", tmp_path / "a run", *arguments) == 0
    output = capsys.readouterr().out
    assert f"{tmp_path / 'a run'}  " in output
    assert "\nquadratic, 1 step, 1 seed\n" in output
    assert out.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["nope.safetensors"], "there is no file or folder nope.safetensors. Give a released name"),
        (["default", "--task", "digits-mlpp"], "no task 'digits-mlpp'. Did you mean 'digits-mlp'? Choose from"),
        (["default", "--out", "curves.doc"], "must be a file that ends with .png or .pdf or .svg, got curves.doc"),
        (["default", "--out", "."], "--out must be a file that ends with"),
        (["default", "--out", "folder.png"], "--out must be a file, got the folder folder.png"),
        (["default", "--steps", "x"], "Invalid value for '--steps'"),
    ],
)
def test_refused_before_any_work(arguments, hint, run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluate, "run", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    assert run("compare", *arguments) == 2
    assert hint in capsys.readouterr().err
