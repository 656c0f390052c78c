"""The pages in `docs/`: the table of architectures is complete, and the examples run."""

import pathlib
import re

import pytest

from learned_optim import optimizers

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


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_relative_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text())
    assert [link for link in links if not (DOCS / link).exists()] == []
