"""Tests mirror the sources: `tests/ROOM/test_x.py` tests `ROOM/x.py`, so that who changes one finds the other."""

import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
TESTS = sorted(
    path.relative_to(ROOT / "tests")
    for package in ("learned_optim", "meta_train")
    for path in (ROOT / "tests" / package).rglob("test_*.py")
)

# Tests of a whole room or package, none of whose sources is theirs. What tests a single source belongs beside it.
WHOLE_ROOM = {
    "learned_optim/optimizers/test_contract.py",  # what every architecture must do, found by the registry
    "learned_optim/optimizers/test_in_programs.py",  # the same, as part of a JAX program: traces, meshes, dtypes
    "learned_optim/optimizers/test_sharded.py",  # what devices exchange if a model is sharded, for two architectures
    "learned_optim/test_import.py",  # what importing the package loads, and that building things starts no backend
    "learned_optim/test_interop.py",  # learned optimizers in the training loops of Haiku, Flax and Equinox
    "meta_train/estimators/test_family.py",  # what all estimators share: shards, particles that diverge, horizons
    "meta_train/estimators/test_interchangeable.py",  # every estimator trains an optimizer; one argument chooses it
    "meta_train/estimators/test_memory.py",  # memory of estimators side by side, as the horizon grows
    "meta_train/estimators/test_toy.py",  # a toy that PES solves and the truncated estimators do not
}


def _source(test):
    """`__init__.py` and `__main__.py` are tested by test_init.py and test_main.py."""
    stem = test.stem.removeprefix("test_")
    return test.with_name({"init": "__init__", "main": "__main__"}.get(stem, stem) + ".py")


@pytest.mark.parametrize("package", ["learned_optim", "meta_train"])
def test_every_test_file_has_a_source_of_its_name(package):
    """If not: name it after what it tests. If that is a whole room, add it to WHOLE_ROOM with the reason."""
    own = [test for test in TESTS if test.parts[0] == package]
    assert len(own) > 30
    without = {test.as_posix() for test in own if not (ROOT / _source(test)).is_file()}
    assert without == {name for name in WHOLE_ROOM if name.startswith(package)}


def test_every_exception_gives_its_reason():
    lines = pathlib.Path(__file__).read_text(encoding="utf-8").splitlines()
    for name in WHOLE_ROOM:
        (line,) = (line for line in lines if f'"{name}",' in line)
        assert len(line.partition("  # ")[2]) > 20, line
