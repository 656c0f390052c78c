"""The pages in `docs/`: the table of architectures is complete, and the examples run."""

import pathlib
import re
import sys

import jax
import pytest

from learned_optim import optimizers
from meta_train import tasks

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def test_the_table_of_architectures_is_complete():
    rows = re.findall(r"^\| `(\w+)` \|", (DOCS / "optimizers.md").read_text(), re.MULTILINE)
    assert set(rows) == set(optimizers.KINDS)


@pytest.mark.optax_promotion
@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}  # an example goes on where the one before it ended
    for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(compile(code, page.name, "exec"), names)


FILES = re.findall(r"```python\n(.*?)```", (DOCS / "your-own-model.md").read_text(), re.DOTALL)[:-1]


@pytest.mark.optax_promotion
@pytest.mark.parametrize("source", FILES, ids=["plain", "nnx", "linen", "haiku", "equinox"])
def test_each_example_of_a_users_model_is_a_task_file(source, tmp_path, monkeypatch):
    """Making the task traces all its functions and computes a gradient."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "mine.py"
    path.write_text(source, encoding="utf-8")
    task = tasks.from_file(path, num_batches=10)
    params = jax.eval_shape(lambda key: task.init(key, ()), jax.random.key(0))
    found = jax.eval_shape(task.evaluate, params, jax.random.key(0), task.data, ())
    assert sorted(found) == (["error", "loss"] if "def metrics" in source else ["loss"])


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_relative_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text())
    assert [link for link in links if not (DOCS / link).exists()] == []
