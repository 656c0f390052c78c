"""The benchmarks of searches, populations and continual learning write their records; long trainings are stood in."""

import json
import pathlib
import runpy
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import data
from meta_train.training import engine

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch, tmp_path):
    """`(name, *arguments) -> (names in the script, path of its record)`, with the script's main ready to run."""
    monkeypatch.setattr(engine, "cache_compilations", lambda: None)

    def load(name, *arguments):
        out = tmp_path / "deeper" / "figures.json"
        monkeypatch.setattr(sys, "argv", [name, "--quick", *arguments, "--out", str(out)])
        return runpy.run_path(str(BENCHMARKS / name)), out

    return load


def test_search_benchmark_compares_searches_at_equal_budget(script, capsys):
    names, out = script("search.py", "--case", "mixed", "counting-ones", "--seeds", "2")
    names["main"]()
    record = json.loads(out.read_text())
    for case in ("mixed", "counting-ones"):
        regrets = record[case]["regret_by_share_of_the_budget"]
        assert list(regrets) == ["random", "hyperband", "dehb"]
        assert all(len(row["by_seed"]) == 2 and row["mean"] >= 0 for by in regrets.values() for row in by.values())
    assert record["mixed"]["settings"] == 20
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert "dehb" in capsys.readouterr().out


def test_the_functions_searched_have_no_regret_at_their_optimum():
    names = runpy.run_path(str(BENCHMARKS / "search.py"))
    ones = names["counting_ones"](0)
    best = {name: dimension.decode(1.0) for name, dimension in ones.space.items()}
    assert ones.regret(best) == 0.0
    assert ones.evaluate(best, 5) == -40.0
    mixed = names["mixed"](0)
    regrets = [mixed.regret({n: d.decode(float(u)) for n, d in mixed.space.items()}) for u in np.linspace(0, 1, 7)]
    assert min(regrets) > 0
    noisy = [mixed.evaluate({n: d.decode(0.5) for n, d in mixed.space.items()}, 81) for _ in range(200)]
    np.testing.assert_allclose(np.mean(noisy), regrets[3], atol=1e-3)


def test_search_benchmark_tunes_a_recipe(script, monkeypatch):
    names, out = script("search.py", "--case", "recipe")
    stand_ins = {  # theta is what the loss will be: lowest at a rate of 0.1, and lower after more steps
        "meta_training": lambda optimizer, window: (
            lambda config, steps, seed: abs(np.log10(config["rate"]) + 1) + 1 / (steps * window)
        ),
        "score": lambda optimizer: lambda theta, seed: theta,
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setitem(names["main"].__globals__, name, stand_in)
    names["main"]()
    answers = json.loads(out.read_text())["recipe"]["answers"]
    assert list(answers) == ["demo", "random", "dehb"]
    assert answers["random"]["spent"] == answers["dehb"]["spent"] == 600
    for name in ("random", "dehb"):
        assert answers[name]["loss"]["mean"] == pytest.approx(answers[name]["loss_in_search"], abs=1e-3)
        assert set(answers[name]["config"]) == set(answers["demo"]["config"])


def test_population_benchmark_writes_its_record(script, monkeypatch, capsys):
    names, out = script("population.py")

    def train(dataset, strategy, num_steps, seed, limit):
        first = names["search"].Trainee({"w": jnp.zeros(())}, {"rate": jnp.float32(0), "decay": jnp.float32(0)})
        theta = strategy.ask(None, strategy.init(jax.random.key(0), first)).hyperparameters
        assert len({(float(r), float(d)) for r, d in zip(theta["rate"], theta["decay"], strict=True)}) == 20
        assert float(jnp.max(theta["rate"])) == np.float32(0.3)
        figures = {"validation_loss": 1.0, "test_loss": 1.1, "test_accuracy": 0.5, "final": {"rate": 0.1}}
        return {**figures, "lowest_validation_loss": [2.0, 1.0]}

    monkeypatch.setitem(names["main"].__globals__, "train", train)
    names["main"]()
    rows = json.loads(out.read_text())["results"]
    assert [(row["search"], row["seed"]) for row in rows] == [("pbt", 0), ("grid", 0), ("grid, cosine", 0)]
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert "grid, cosine" in capsys.readouterr().out


def test_population_benchmark_holds_a_fifth_of_the_training_part_out():
    names = runpy.run_path(str(BENCHMARKS / "population.py"))
    digits = data.load("digits")
    split = names["split"](digits, 1000)
    assert [len(array) for array in split] == [800, 800, 200, 200]
    rows = {row.tobytes() for row in digits.train_x}
    assert {row.tobytes() for row in split.test_x} <= rows
    assert len(rows & {row.tobytes() for row in (*split.train_x, *split.test_x)}) == len(
        {row.tobytes() for row in (*split.train_x, *split.test_x)}
    )


def test_continual_benchmark_searches_each_method_and_writes_its_record(script, monkeypatch, capsys):
    names, out = script("continual.py")

    def trainer(model, method, dataset):
        kept = (
            0.0 if method.importance is None else 0.3
        )  # accuracies lie at most this far above those of plain training

        def run(config, num_steps, seed):
            return np.full((5, 5), 0.5 + kept - 0.1 * abs(np.log10(config["rate"]) + 2) - 0.1 / num_steps)

        return run

    monkeypatch.setitem(names["main"].__globals__, "trainer", trainer)
    names["main"]()
    results = json.loads(out.read_text())["results"]
    assert list(results) == ["plain", "l2", "ewc"]
    assert set(results["plain"]["config"]) == {"rate"}
    assert set(results["ewc"]["config"]) == {"rate", "weight"}
    assert all(row["trials"] == 13 for row in results.values())
    assert results["ewc"]["test_accuracy"] == pytest.approx(results["ewc"]["validation_accuracy"])
    assert results["ewc"]["test_accuracy"] > results["plain"]["test_accuracy"] + 0.2
    assert out.with_suffix(".png").stat().st_size > 10_000
    assert "ewc" in capsys.readouterr().out


def test_continual_benchmark_holds_a_fifth_of_the_training_part_out():
    names = runpy.run_path(str(BENCHMARKS / "continual.py"))
    flat = names["flat"](data.load("digits"), 1000)
    held = names["validation"](flat)
    assert [array.shape[0] for array in held] == [800, 800, 200, 200]
    assert flat.train_x.shape == (1000, 64) and len(flat.test_x) == 360
    np.testing.assert_array_equal(np.concatenate([held.test_x, held.train_x]), flat.train_x)
