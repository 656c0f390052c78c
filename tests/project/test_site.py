"""The documentation site, without building it: its reference has every public symbol, its contents every page."""

import importlib
import inspect
import pathlib
import re
import runpy
import textwrap
import types

import pytest
import yaml

import learned_optim
import meta_train
from meta_train.data import dataset

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
IDENTIFIERS = [
    identifier
    for page in sorted((DOCS / "api").glob("*.md"))
    for identifier in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
]

# Packages whose `__all__` says what is public, and modules whose functions and classes are.
PACKAGES = [
    "learned_optim",
    "meta_train",
    *(
        f"meta_train.{name}"
        for name in ("continual", "data", "estimators", "few_shot", "outer.search", "problems", "tasks")
    ),
]
MODULES = [
    "meta_train.evaluation.baselines",
    "meta_train.evaluation.protocol",
    "meta_train.outer.safeguards",
    "meta_train.outer.self_training",
    "meta_train.problems.objectives",
    "meta_train.recipes",
    "meta_train.unroll.truncation",
]


def _resolve(identifier):
    """The object of that name, a module before anything else, as mkdocstrings finds it."""
    try:
        return importlib.import_module(identifier)
    except ModuleNotFoundError:
        owner, _, name = identifier.rpartition(".")
        return getattr(_resolve(owner), name)


def _defined(module):
    """The public functions and classes of a module: what mkdocstrings shows of it."""
    return [
        thing
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(thing) or inspect.isclass(thing))
        and thing.__module__ == module.__name__
    ]


def _covered():
    things = [_resolve(identifier) for identifier in IDENTIFIERS]
    modules = [thing for thing in things if isinstance(thing, types.ModuleType)]
    return {id(thing) for thing in [*things, *(part for module in modules for part in _defined(module))]}


def _pages(entry):
    """The pages in a part of the site's contents."""
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in _pages(part)]


def test_every_identifier_is_there_once():
    assert len(set(IDENTIFIERS)) == len(IDENTIFIERS)
    assert all(_resolve(identifier) is not None for identifier in IDENTIFIERS)


@pytest.mark.parametrize("name", [*PACKAGES, *MODULES])
def test_the_reference_has_every_public_symbol(name):
    module, covered = importlib.import_module(name), _covered()
    public = {symbol: getattr(module, symbol) for symbol in module.__all__} if name in PACKAGES else {}
    public |= {thing.__name__: thing for thing in _defined(module)} if name in MODULES else {}
    parts = [symbol for symbol, thing in public.items() if isinstance(thing, types.ModuleType)]
    known = {*PACKAGES, *MODULES, *IDENTIFIERS}
    assert [symbol for symbol in parts if public[symbol].__name__ not in known] == []
    assert [symbol for symbol in public if symbol not in parts and id(public[symbol]) not in covered] == []
    assert public


def test_the_contents_have_every_page_once_and_no_other():
    outside = SITE["extra"]["pages_from"]
    pages = [str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")]
    assert sorted(_pages(SITE["nav"])) == sorted([*pages, *outside])


def test_pages_from_elsewhere_exist_and_every_card_is_among_them():
    outside = SITE["extra"]["pages_from"].values()
    assert [source for source in outside if not (ROOT / source).is_file()] == []
    assert {f"pretrained/{name}/card.md" for name in learned_optim.list_pretrained()} <= set(outside)


@pytest.mark.parametrize("page", sorted((DOCS / "api").glob("*.md")), ids=lambda page: page.stem)
def test_relative_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_what_is_missing_would_be_found():
    """The check itself: private functions, imported ones and constants are not what a module stands for."""
    assert dataset.load in _defined(dataset) and dataset.Dataset in _defined(dataset)
    assert dataset._read not in _defined(dataset) and meta_train.fit not in _defined(meta_train)
    assert id(test_what_is_missing_would_be_found) not in _covered()


def test_docstrings_are_translated():
    translated = runpy.run_path(str(DOCS / "hooks" / "docstrings.py"))["translated"]
    given = r"""
        One line.

        .. math:: a = b, \qquad
                  c = d

        where :math:`a` is one of these:
          b: something that
            goes on.

        Args:
          x: a number.

        Example: the first
        of two.
          >>> 1
          1

        Fields:
          y: another.

        References:
          Somebody 2020
          Someone 2021
        """
    expected = r"""
        One line.

        \[ a = b, \qquad c = d \]

        where \(a\) is one of these:

        - `b`: something that
              goes on.

        Args:
          x: a number.

        Examples: Example
          The first of two.

          >>> 1
          1

        Attributes:
          y: another.

        References:
          - Somebody 2020
          - Someone 2021
        """
    lines = [line for line in translated(textwrap.dedent(given)).splitlines() if line.strip()]
    assert lines == [line for line in textwrap.dedent(expected).splitlines() if line.strip()]
