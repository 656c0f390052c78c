"""`meta-train train`: recipes of all kinds of quality, and what comes next."""

import json
from math import inf
from math import nan
import shlex

import pytest

import learned_optim
from meta_train import recipes
from meta_train import tasks
from meta_train.cli import train
from meta_train.host import distributed
from meta_train.recipes.few_shot import load_theta
from meta_train.training import run_metrics

BEGINNING = """
import jax, jax.numpy as jnp, learned_optim, optax
from meta_train import Problem, estimators, recipes, truncation

def step(key, theta, w, data):
    return w, theta["log_learning_rate"] * jnp.ones(()) @ w

def recipe(num_steps=3, seed=0):
    optimizer = learned_optim.learned_sgd(0.01)
    problem = Problem(init=lambda key, theta, num_steps: jnp.ones(2), step=step)
    arguments = dict(num_particles=2, unroll_length=2, horizon=truncation.constant(2))
    estimator = estimators.truncated_backprop(problem, **arguments)
    return recipes.Recipe(optimizer, optimizer.init(None), (estimator,), optax.sgd(0.1), num_steps, seed)
"""


@pytest.fixture
def recipe(tmp_path):
    """A function of a source that writes a recipe file."""

    def write(source):
        path = tmp_path / "mine.py"
        path.write_text(source, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("def recipe(:\n", ["mine.py", "line 1", "def recipe(:", "SyntaxError: invalid syntax"]),
        ("import nope\n", ['mine.py", line 1, in', "    import nope", "ModuleNotFoundError: No module named 'nope'"]),
        (
            "def recipe(num_steps=1, seed=0):\n    return 1 / 0\n",
            ['mine.py", line 2, in', "    return 1 / 0", "ZeroDivisionError: division by zero"],
        ),
        (
            "from meta_train import tasks\n\ndef recipe(num_steps=1, seed=0):\n    tasks.get('iris-mlpp')\n",
            ['mine.py", line 4, in', "    tasks.get('iris-mlpp')", "no task 'iris-mlpp'. Did you mean 'iris-mlp'?"],
        ),
        (BEGINNING, ['mine.py", line 6,', '    return w, theta["log_learning_rate"] * jnp.ones(()) @ w']),  # in `fit`
        ("answer = 42\n", ["must define a function recipe(num_steps=…, seed=…) that returns a Recipe, and def"]),
        ("def recipe(seed=0):\n    pass\n", ["but it cannot be called with num_steps: got an unexpected keyword"]),
        ("def recipe(num_steps=1):\n    pass\n", ["that returns a Recipe, and it returned NoneType"]),
    ],
)
def test_an_error_in_a_recipe_file_shows_its_line_and_none_of_ours(source, shown, recipe, run, tmp_path, capsys):
    assert run("train", recipe(source), "--steps", 3, "--out", tmp_path / "run") == 2
    error = capsys.readouterr().err
    for part in shown:
        assert part in error
    assert "Traceback" not in error and "meta_train/" not in error and "<frozen" not in error


def test_help_lists_recipes_and_defaults(run, capsys):
    assert run("train", "--help") == 0
    words = " ".join(capsys.readouterr().out.split())
    for name, text in recipes.descriptions().items():
        assert f"{name}: {text}" in words
    for default in ("[default: runs/RECIPE]", "[default: the recipe's]", "600 outer steps", "all have seed 0"):
        assert default in words


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["demoo"], "no recipe 'demoo'. Did you mean 'demo'? Choose from adam_residual_schedule_v1, "),
        (["celo-rule-v1"], "Did you mean 'celo_rule_v1'?"),
        ([""], "no recipe ''. Choose from"),
        (["no such.py"], "there is no recipe file no such.py"),
        (["demo", "--out", "{file}"], "is no folder"),
        (["demo", "--out", "{file}/run"], "must be in a folder that can be written to"),
        (["demo", "--num-processes", "2", "--out", "{file}"], "is no folder"),
        (["demo", "--max-step", "1"], "give --outer as well"),
        (["demo", "--out", ""], "Invalid value for '--out': expected a path, got ''"),
        (["demo", "--data-dir", ""], "Invalid value for '--data-dir': expected a path, got ''"),
        (["demo", "--num-processes", "2", "--outer", "WRONG"], "the outer optimizer must be adamw[:RATE], "),
        (["demo", "--num-processes", "2", "--outer", "learned:velo"], "no released optimizer 'velo'"),
        (["demo", "--num-processes", "2", "--outer", "live", "--max-step", "0"], "max_step must be positive"),
    ],
)
def test_refused_before_any_work(arguments, hint, run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(recipes, "get", None)
    monkeypatch.setattr(distributed, "launch", None)
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert run("train", *(argument.format(file=tmp_path / "file") for argument in arguments)) == 2
    assert hint in capsys.readouterr().err


def test_a_recipe_file_without_its_ending(run, recipe, monkeypatch, tmp_path, capsys):
    recipe("")
    monkeypatch.chdir(tmp_path)
    assert run("train", "mine") == 2
    assert "Did you mean 'mine.py'?" in capsys.readouterr().err


def test_the_next_command_works(run, recipe, tmp_path, capsys, monkeypatch):
    out = tmp_path / "my run"
    source = BEGINNING.replace('theta["log_learning_rate"] * jnp.ones(()) @ w', 'theta["log_learning_rate"] * w @ w')
    assert run("train", recipe(source), "--steps", 1, "--out", out) == 0
    *_, result, last = capsys.readouterr().out.splitlines()
    assert result.startswith("Mean meta-loss of the last 1 outer step: ")
    assert learned_optim.load(out / "theta.safetensors")
    command = shlex.split(last.partition("Next: python -m meta_train ")[2])
    monkeypatch.setattr(tasks, "suite", lambda name, embedded=False: ("wine-softmax", "yacht-mlp"))
    monkeypatch.setattr("meta_train.data.tfds.read", lambda name: None)
    monkeypatch.delenv("LEARNED_OPTIM_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert run(*command, "--steps", 2, "--seeds", 1, "--baseline", "adam-1e-3") == 0
    assert f"2 steps: {out / 'theta.safetensors'} on 1 task\n" in capsys.readouterr().out


def test_theta_that_is_no_optimizer(run, recipe, tmp_path, capsys):
    """It is saved by the names of its arrays; it cannot train itself."""
    source = BEGINNING.replace('theta["log_learning_rate"] * jnp.ones(()) @ w', 'theta["log_learning_rate"] * w @ w')
    path = recipe(source.replace("recipes.Recipe(optimizer,", "recipes.Recipe(None,"))
    assert run("train", path, "--steps", 1, "--out", tmp_path / "run") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    file = tmp_path / "run" / "theta.safetensors"
    assert last == f"Wrote {file}. meta_train.recipes.few_shot.load_theta(path, recipe.theta) reads it."
    theta = load_theta(file, recipes.get(str(path)).theta)
    assert theta["log_learning_rate"] != recipes.get(str(path)).theta["log_learning_rate"]
    assert run("train", path, "--steps", 1, "--outer", "live", "--out", tmp_path / "other") == 2
    assert "this recipe makes none: give adamw or learned:NAME" in capsys.readouterr().err


def test_for_machines_there_is_json_and_nothing_else(run, recipe, tmp_path, capsys):
    out = tmp_path / "run"
    source = BEGINNING.replace('theta["log_learning_rate"] * jnp.ones(()) @ w', 'theta["log_learning_rate"] * w @ w')
    path = recipe(source)
    assert run("train", path, "--steps", 2, "--out", out, "--quiet", "--json") == 0
    captured = capsys.readouterr()
    made = json.loads(captured.out)
    assert captured.err == ""
    expected = {"recipe": str(path), "run": str(out), "theta": str(out / "theta.safetensors"), "steps": 2}
    assert made == expected | {"loss": pytest.approx(run_metrics.read(out / "metrics.jsonl")[-1]["loss"])}


@pytest.mark.parametrize(
    ("losses", "line"),
    [
        ([9.0] * 38 + [1.0, 2.0], "Mean meta-loss of the last 2 outer steps: 1.500"),
        ([9.0] * 38 + [1.0, nan], "Mean meta-loss of the last 2 outer steps, without 1 that is not finite: 1.000"),
        (
            [1.0] * 60 + [inf, 1.0, nan],
            "Mean meta-loss of the last 3 outer steps, without 2 that are not finite: 1.000",
        ),
        ([nan], "The meta-loss is not finite in the last 1 outer step."),
    ],
)
def test_the_last_losses_leave_out_what_is_not_finite(losses, line):
    assert train._last_losses(losses) == line


@pytest.mark.parametrize("moment", ["get", "run"])
def test_ctrl_c(moment, run, tmp_path, capsys, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes, moment, stop)
    assert run("train", "demo", "--out", tmp_path) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_folder_that_holds_a_run_is_found_out_before_any_work(run, tmp_path, capsys, monkeypatch):
    (tmp_path / "run.json").write_text("{}")
    for name in ("get", "run"):
        monkeypatch.setattr(recipes, name, lambda *arguments, **options: pytest.fail("worked"))
    monkeypatch.setattr(distributed, "launch", lambda *arguments: pytest.fail("started processes"))
    for processes in (1, 2):
        assert run("train", "demo", "--out", tmp_path, "--num-processes", processes) == 2
        assert "already holds a run: pass resume=True (--resume) to go on with it" in capsys.readouterr().err
