"""The demo as a whole, at a small scale."""

import pytest

import learned_optim
from meta_train import estimators
from meta_train import recipes
from meta_train.cli import showcase
from meta_train.evaluation import tuning


@pytest.mark.optax_promotion
def test_demo_does_the_main_job(tmp_path, run, capsys, monkeypatch):
    monkeypatch.setattr(tuning, "LEARNING_RATES", (1e-3, 1e-1))
    original, pes = recipes.get, estimators.pes
    monkeypatch.setattr(estimators, "pes", lambda problem, **rest: pes(problem, **rest | {"num_particles": 8}))
    monkeypatch.setattr(recipes, "get", lambda name: original(name, num_steps=25))
    monkeypatch.setattr(showcase, "NUM_STEPS", 100)
    monkeypatch.setattr(showcase, "NUM_SEEDS", 2)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("of a demo that came to its end")
    (tmp_path / "my-optimizer.safetensors").write_text("so that the next one starts anew")
    assert run("demo", "--out", tmp_path) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "±" in line]
    finals = {name: float(figures.split("±")[0]) for name, figures in (row.split("  ", 1) for row in rows)}
    assert finals["yours"] < finals["yours, before meta-training"]
    assert finals["yours"] < finals["Adam 1e-3"]
    assert (tmp_path / "compare.png").stat().st_size > 10_000
    assert learned_optim.load(tmp_path / "my-optimizer.safetensors")[0].spec["kind"] == "mlp"
