"""The models in benchmarks/adapt_models are task files that `adapt` takes."""

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
