"""The import contracts in pyproject.toml hold, and each of them finds a planted violation."""

import pathlib
import shutil
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]

# A contract, a file, and an import that the contract forbids there.
VIOLATIONS = [
    ("learned_optim knows no meta_train", "learned_optim/features.py", "import meta_train.host.counted"),
    ("learned_optim needs jax", "learned_optim/features.py", "import matplotlib"),
    ("The rooms of meta_train form layers", "meta_train/tasks/mlp.py", "from meta_train.estimators import pes"),
    ("The rooms of meta_train form layers", "meta_train/host/cores.py", "from meta_train import cli"),
    ("The rooms of meta_train form layers", "meta_train/training/fit.py", "from meta_train.evaluation import scores"),
    (
        "Estimators, outer optimizers and training know no task",
        "meta_train/estimators/pes.py",
        "import meta_train.tasks",
    ),
    ("Estimators, outer optimizers, training and", "meta_train/outer/safeguards.py", "import learned_optim.optimizers"),
    ("Evaluation knows optimizers, tasks", "meta_train/evaluation/scores.py", "from meta_train import problems"),
    ("No room imports meta_train's own namespace", "meta_train/cli/plot.py", "from meta_train import fit"),
    ("No circles", "meta_train/tasks/base.py", "from meta_train.tasks import mlp"),
]


def _lint(folder):
    """Exit status and report of import-linter, run in a folder that holds both packages and pyproject.toml."""
    command = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    result = subprocess.run(
        [sys.executable, "-c", command], cwd=folder, capture_output=True, encoding="utf-8", check=False
    )
    return result.returncode, " ".join((result.stdout + result.stderr).split())  # without the report's line breaks


def test_the_import_contracts_hold():
    status, report = _lint(ROOT)
    assert status == 0, report
    assert f"Contracts: {len(CONTRACTS)} kept, 0 broken." in report


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for package in ("learned_optim", "meta_train"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize(("contract", "file", "line"), VIOLATIONS, ids=[line for _, _, line in VIOLATIONS])
def test_a_planted_violation_is_found(copy, contract, file, line):
    source = (copy / file).read_text(encoding="utf-8")
    (copy / file).write_text(f"{source}\n{line}\n", encoding="utf-8")
    try:
        status, report = _lint(copy)
    finally:
        (copy / file).write_text(source, encoding="utf-8")
    (name,) = (each["name"] for each in CONTRACTS if each["name"].startswith(contract))
    assert status == 1
    assert f"{name} BROKEN" in report


def test_each_contract_has_a_planted_violation():
    assert all(any(each["name"].startswith(name) for name, _, _ in VIOLATIONS) for each in CONTRACTS)


def test_the_top_level_of_meta_train_stays_small():
    """A newcomer finds the room to enter in one screen, so a new module goes into a room, not beside the rooms.

    To add a room, change this number together with the layers in pyproject.toml.
    """
    entries = sorted(path.name for path in (ROOT / "meta_train").iterdir() if path.name != "__pycache__")
    assert len(entries) <= 18, entries
