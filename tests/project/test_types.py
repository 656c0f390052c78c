"""Type checkers: the tree is clean, and a user's program is typed where it uses the two packages."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
BIN = pathlib.Path(sys.executable).parent

PROGRAM = """
import jax
import jax.numpy as jnp
import optax

import learned_optim
from meta_train import data
from meta_train import estimators
from meta_train import fit
from meta_train import problems
from meta_train import tasks
from meta_train import truncation
from meta_train.evaluation import evaluate

tx = optax.chain(optax.clip_by_global_norm(1.0), learned_optim.learned_optimizer(num_steps=100))
params = {"w": jnp.zeros((3, 2))}
state = tx.init(params)
updates, state = tx.update({"w": jnp.ones((3, 2))}, state, params)

optimizer = learned_optim.mlp(hidden_sizes=(4,))
task = tasks.mlp("mine", data.load("digits"), hidden_sizes=(16,))
problem = problems.optimizer_weights(optimizer, task)
horizon = truncation.log_uniform(10, 100)
estimator = estimators.pes(problem, num_particles=4, unroll_length=5, horizon=horizon, std=0.01)
result = fit([estimator], optimizer.init(jax.random.key(0)), optax.adam(1e-3), num_steps=10)
learned_optim.save("mine.safetensors", optimizer, result.theta)
again, theta = learned_optim.load("mine.safetensors")
run = evaluate.run(task, again.transform(theta), num_steps=10, num_seeds=2)
print(run.final_losses.mean())
"""

# Names that the program uses, and what a type checker must say of each: a type, or a function's return type.
NAMES = {
    "learned_optim.learned_optimizer": "GradientTransformationExtraArgs",
    "learned_optim.mlp": "LearnedOptimizer",
    "optimizer": "LearnedOptimizer",
    "optimizer.init": "InitTheta",
    "tasks.mlp": "Task",
    "task": "Task",
    "data.load('digits')": "Dataset",
    "data.load('tiny_shakespeare')": "Text",
    "problems.optimizer_weights": "Problem",
    "problem": "Problem",
    "truncation.log_uniform": "Horizon",
    "horizon": "Horizon",
    "estimators.pes": "Estimator",
    "estimator": "Estimator",
    "fit": "FitResult",
    "result": "FitResult",
    "learned_optim.save": "None",
    "learned_optim.load": "tuple[LearnedOptimizer, Any]",
    "again.transform": "Transform",
    "evaluate.run": "Result",
    "run.final_losses": "ndarray",
}

# Two mistakes. `reveal_type` would hide behind them, so they stand in a program of their own.
MISTAKES = """
learned_optim.learned_optimizer(steps=100)
estimators.pes(task, num_particles=4, unroll_length=5, horizon=horizon)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Programs in a folder, and the packages in another one, as an installation would have them."""
    folder = tmp_path_factory.mktemp("types")
    for name in ("installed", "programs"):
        (folder / name).mkdir()
    for package in ("learned_optim", "meta_train"):
        (folder / "installed" / package).symlink_to(ROOT / package)
    reveal = "".join(f"reveal_type({name})\n" for name in NAMES)
    (folder / "programs" / "revealed.py").write_text(PROGRAM + reveal, encoding="utf-8")
    (folder / "programs" / "mistaken.py").write_text(PROGRAM + MISTAKES, encoding="utf-8")
    return folder


def _pyright(*arguments, cwd, **environment):
    command = [BIN / "basedpyright", "--outputjson", "--pythonpath", sys.executable, *arguments]
    result = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, encoding="utf-8", check=False
    )
    return json.loads(result.stdout)["generalDiagnostics"]


def _line(text):
    """The number of a line of the second program."""
    return (PROGRAM + MISTAKES).splitlines().index(text) + 1


def test_the_tree_has_no_type_error():
    found = _pyright(cwd=ROOT)
    assert [
        f"{pathlib.Path(each['file']).relative_to(ROOT)}:{each['range']['start']['line'] + 1}: {each['message']}"
        for each in found
        if each["severity"] in ("error", "warning")
    ] == []


@pytest.fixture(scope="module")
def found_in_programs(folder):
    """What pyright says of each of the two programs."""
    (folder / "programs" / "pyrightconfig.json").write_text('{"typeCheckingMode": "basic"}', encoding="utf-8")
    programs = ("revealed.py", "mistaken.py")
    found = _pyright(*programs, cwd=folder / "programs", PYTHONPATH=str(folder / "installed"))
    return {name: [each for each in found if pathlib.Path(each["file"]).name == name] for name in programs}


def test_pyright_sees_the_types_that_a_program_uses(found_in_programs):
    found = found_in_programs["revealed.py"]
    assert [each["message"] for each in found if each["severity"] == "error"] == []
    types = [re.fullmatch(r'Type of "(.*?)" is "(.*)"', each["message"], re.DOTALL).groups() for each in found]
    assert [name.replace('"', "'") for name, _ in types] == list(NAMES)
    for (name, found_type), expected in zip(types, NAMES.values(), strict=True):
        # jax.Device is a variable to pyright, and so unknown.
        assert "Unknown" not in found_type.replace("Sequence[Unknown] | None", ""), (name, found_type)
        assert re.search(rf"^(\(.*\) -> )?{re.escape(expected)}", found_type, re.DOTALL), (name, found_type)


def test_pyright_finds_mistakes_in_a_program(found_in_programs):
    found = found_in_programs["mistaken.py"]
    errors = {each["range"]["start"]["line"] + 1: each["message"] for each in found if each["severity"] == "error"}
    first, second = (_line(text) for text in MISTAKES.strip().splitlines())
    assert set(errors) == {first, second}
    assert 'No parameter named "steps"' in errors[first]
    assert '"Task" is not assignable to "Problem"' in errors[second]


def test_mypy_sees_the_same(folder):
    """It takes what optax has for Any, since optax ships no type information."""
    command = [BIN / "mypy", "--ignore-missing-imports", "--follow-imports=silent", "--python-executable"]
    result = subprocess.run(
        [*command, sys.executable, "revealed.py", "mistaken.py"],
        cwd=folder / "programs",
        env={**os.environ, "MYPYPATH": str(folder / "installed")},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    lines = result.stdout.splitlines()
    types = [line.partition("Revealed type is ")[2].strip('"') for line in lines if ": note: Revealed" in line]
    assert len(types) == len(NAMES), result.stdout + result.stderr
    for (name, expected), found_type in zip(NAMES.items(), types, strict=True):
        if "Gradient" not in expected:
            assert "Any" not in (found_type, found_type.rpartition(" -> ")[2]), (name, found_type)
    errors = [line for line in lines if ": error:" in line]
    first, second = errors
    assert first.startswith(f"mistaken.py:{_line('learned_optim.learned_optimizer(steps=100)')}: ")
    assert 'Unexpected keyword argument "steps"' in first
    assert 'incompatible type "Task"; expected "Problem"' in second
