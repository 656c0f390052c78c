"""The models in benchmarks/adapt_models are task files that `adapt` takes."""

import json
import math
import pathlib
import runpy
import sys

import numpy as np
import pytest

from meta_train import tasks
from meta_train.tasks.user_model import has_held_out

FOLDER = pathlib.Path(__file__).parents[2] / "benchmarks" / "adapt_models"


@pytest.mark.optax_promotion
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_each_model_is_a_task_file(path, monkeypatch):
    """Making the task traces all its functions and computes a gradient."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert has_held_out(tasks.from_file(path, num_batches=2))


def test_the_benchmark_knows_the_steps_of_each():
    names = runpy.run_path(str(FOLDER.parent / "adapt.py"))
    assert sorted(names["STEPS"]) == sorted(path.stem for path in FOLDER.glob("*.py"))


def _result(model, gain):
    """What a record has of a model that ends at 0.5 with the default, at 0.4 with the adapted optimizer."""
    steps = {"default": 100.0, "adapted": 50.0, "Muon (tuned)": None, "Muon (tuned, held out)": 80.0}
    losses = dict(zip(steps, (0.5, 0.4, 0.7, 0.6), strict=True))
    return {
        "model": model,
        "gain": gain,
        "objective": "held-out",
        "num_steps": 1000,
        "num_parameters": 2500,
        "chosen": "CMA-ES",
        "search": {"trainings": 1234},
        "change": math.log(0.8),
        "error": 0.0,
        "speedup": 1.5,
        "steps": steps,
        "step_milliseconds": dict.fromkeys(steps, 2.0),
        "results": [
            {"optimizer": name, "held_out": {"loss": [loss, loss]}, "final_training_loss": [loss]}
            for name, loss in losses.items()
        ],
    }


def test_records_of_several_processes_are_joined(tmp_path, monkeypatch, capsys):
    for name, cores in (("b", 2), ("a", 4)):
        record = {"minutes": 1.0, "machine": {"devices": cores}, "results": [_result(name, name == "a")]}
        (tmp_path / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")
    files = [str(tmp_path / f"{name}.json") for name in "ba"]
    monkeypatch.setattr(sys, "argv", ["adapt.py", "--join", *files, "--out", str(tmp_path / "all.json")])
    runpy.run_path(str(FOLDER.parent / "adapt.py"), run_name="__main__")
    found = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    assert found["minutes"] == 1.0
    assert [(row["model"], row["machine"]["devices"]) for row in found["results"]] == [("a", 4), ("b", 2)]
    printed = capsys.readouterr().out
    assert "| a | 2,500 | 1,000 | 1,234 | CMA-ES | 0.800 (0.800 to 0.800) | 1.50 |\n" in printed
    assert "| b | 2,500 | 1,000 | 1,234 | default: no gain | 0.800 (0.800 to 0.800) | 1 |\n" in printed
    assert "| a | default | 0.5 | 0.5 | 100 | 0.2 |\n| a | adapted | 0.4 | 0.4 | 50 | 0.1 |\n" in printed
    assert "| a | Muon (tuned, held out) | 0.6 | 0.6 | 80 | 0.16 |\n| b | default |" in printed


def _bowl(target):
    """Losses of points around a target, with noise by the seed alone, and a list of the seeds asked for."""
    asked = []

    def measure(points, seeds, stream, num_steps):
        asked.extend(seeds)
        noise = np.array([np.random.default_rng(seed).normal() for seed in seeds])
        return ((np.asarray(points) - target) ** 2).sum(axis=1)[:, None] + noise

    return measure, asked


def test_whole_trainings_point_downhill_and_the_length_of_the_step_is_chosen():
    names = runpy.run_path(str(FOLDER.parent / "adapt_directions.py"))
    target = np.zeros(names["NUMBER"])
    target[3] = 2.0
    measure, asked = _bowl(target)
    np.testing.assert_allclose(names["along"](measure, 5.0 * target, 10, names["fresh_seeds"]()), target)
    asked.clear()
    seeds = names["fresh_seeds"]()
    for way in ("by_whole_trainings", "by_sweep"):
        point = names[way](measure, 10, seeds, 0)
        assert ((point - target) ** 2).sum() < 0.75 * 2.0**2, way
    assert len(set(asked)) == len(asked)  # no seed twice
