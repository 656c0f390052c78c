"""The models in benchmarks/adapt_models are task files that `adapt` takes."""

import json
import pathlib
import runpy
import sys

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


def test_records_of_several_processes_are_joined(tmp_path, monkeypatch):
    for name, cores in (("b", 2), ("a", 4)):
        record = {"minutes": 1.0, "machine": {"devices": cores}, "results": [{"model": name}]}
        (tmp_path / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")
    files = [str(tmp_path / f"{name}.json") for name in "ba"]
    monkeypatch.setattr(sys, "argv", ["adapt.py", "--join", *files, "--out", str(tmp_path / "all.json")])
    runpy.run_path(str(FOLDER.parent / "adapt.py"), run_name="__main__")
    found = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    assert found["minutes"] == 1.0
    assert found["results"] == [
        {"model": "a", "machine": {"devices": 4}},
        {"model": "b", "machine": {"devices": 2}},
    ]
