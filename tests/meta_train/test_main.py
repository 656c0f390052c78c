"""The command line, run in this process."""

import io
import json
import re
import sys
import warnings

import numpy as np
import pytest

import learned_optim
from meta_train import __main__ as command_line
from meta_train import cli
from meta_train import tasks
from meta_train.cli import showcase as demo
from meta_train.evaluation import evaluate
from meta_train.evaluation import protocol
from meta_train.evaluation import tuning
from meta_train.training import engine

pytestmark = pytest.mark.optax_promotion


def run(*arguments):
    """Returns the exit status of the command line."""
    with pytest.raises(SystemExit) as error:
        command_line.main(list(map(str, arguments)))
    return error.value.code


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    monkeypatch.setattr(engine, "cache_compilations", lambda: None)
    monkeypatch.setattr("os._exit", _ended)


def _ended(status):
    """In the place of the process's end, for this one goes on."""
    raise SystemExit(f"ended at once with {status}")


@pytest.fixture
def small_grid(monkeypatch):
    monkeypatch.setattr(tuning, "LEARNING_RATES", (1e-3, 1e-1))


RECIPE = """
import meta_train.recipes, learned_optim, optax
from meta_train import estimators, problems, tasks, truncation

def recipe(num_steps=4, seed=0):
    optimizer = learned_optim.learned_sgd(0.01)
    problem = problems.optimizer_weights(optimizer, tasks.get("quadratic"))
    arguments = dict(num_particles=2, unroll_length=2, horizon=truncation.constant(2))
    estimator = estimators.truncated_backprop(problem, **arguments)
    return meta_train.recipes.Recipe(optimizer, optimizer.init(None), (estimator,), optax.sgd(0.1), num_steps, seed)
"""


@pytest.fixture
def small_demo(monkeypatch):
    """The recipe `demo` as one that is quick to compile."""
    names = {}
    exec(RECIPE, names)
    monkeypatch.setattr("meta_train.recipes.demo.recipe", names["recipe"])


def test_train_compare_and_evaluate_work_on_each_others_files(tmp_path, capsys, small_grid, small_demo, monkeypatch):
    monkeypatch.setattr(tasks, "suite", lambda name, embedded=False: ("wine-softmax", "quadratic"))
    folder, theta = tmp_path / "run", tmp_path / "run" / "theta.safetensors"
    assert run("train", "demo", "--steps", 2, "--out", folder) == 0
    assert str(theta) in capsys.readouterr().out
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2

    assert run("train", "demo", "--steps", 3, "--out", folder) == 2
    assert "--resume" in capsys.readouterr().err
    assert run("train", "demo", "--steps", 3, "--out", folder, "--resume") == 0
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3
    assert run("train", "demo", "--steps", 1, "--out", folder, "--resume") == 2
    assert "3 outer steps already" in capsys.readouterr().err

    assert run("plot", folder) == 0
    assert (folder / "curves.png").stat().st_size > 10_000

    picture = tmp_path / "curves.png"
    arguments = ("--task", "quadratic", "--steps", 100, "--seeds", 2, "--out", picture)
    assert run("compare", theta, "default", *arguments) == 0
    output = capsys.readouterr().out
    for word in (str(theta), "default", "Adam 1e-3", "(tuned)", str(picture)):
        assert word in output
    assert picture.stat().st_size > 10_000

    figures = tmp_path / "figures.json"
    arguments = ("--suite", "validation", "--steps", 30, "--steps", 20, "--seeds", 2, "--out", figures)
    baselines = ("--baseline", "adam", "--baseline", "adam-1e-3")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run("evaluate", theta, *arguments, *baselines) == 0
    output = capsys.readouterr().out
    for part in (
        "wine-softmax, 20 steps, 2 seeds",
        "quadratic, 30 steps",
        "30 steps: ",
        "at or below",
        "training loss above ",
    ):
        assert part in output
    assert re.search(r"at or below +training loss +held-out loss", output)
    record = json.loads(figures.read_text())
    assert list(record["horizons"]) == ["20", "30"]
    for steps, at in record["horizons"].items():
        assert list(at["tasks"]) == ["wine-softmax", "quadratic"]
        assert [run["num_steps"] for run in at["tasks"]["wine-softmax"]] == [int(steps)] * 3
        assert len(at["tasks"]["wine-softmax"][0]["final_training_loss"]) == 2
        assert at["verdict"]["speedups"][0]["baseline"] == "adam"
    for made in ("figures.html", "figures-20-curves.png", "figures-30-profile.png"):
        assert (tmp_path / made).stat().st_size > 10_000
    kept = tmp_path / "cache" / "learned_optim" / "evaluations"
    assert len(list(kept.iterdir())) == 2 * 3  # for each task Adam's rates, its runs, and those of Adam 1e-3

    monkeypatch.setattr(evaluate, "measure", _only_contenders(evaluate.measure))
    assert run("evaluate", theta, *arguments, *baselines, "--task", "quadratic", "--without-num-steps") == 0
    output = capsys.readouterr().out
    assert "wine" not in output
    assert f"{theta} without num_steps on 1 task\n" in output


def _only_contenders(original):
    """For when all baselines are kept: runs of rates and of ladders are refused."""

    def measure(program, **arguments):
        assert arguments["hyperparameters"] == 0.0
        assert arguments["marks"] == (20, 30)
        return original(program, **arguments)

    return measure


def test_what_a_thread_raises_is_the_message(capsys, monkeypatch):
    def judge(task, *args, progress, **rest):
        progress(task.name)
        raise ValueError(f"{task.name} cannot be judged")

    monkeypatch.setattr(protocol, "judge", judge)
    assert run("evaluate", "default", "--task", "wine-softmax", "--steps", 100) == 2
    assert "meta-train: wine-softmax cannot be judged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["train", "dmo"], "Did you mean 'demo'?"),
        (["train", "demo", "--stepz", "3"], "--steps"),
        (["train", "demo", "--steps", "0"], "--steps"),
        (["trian"], "Did you mean 'train'?"),
        (["compare", "default", "--task", "digits-mpl"], "Did you mean 'digits-mlp'?"),
        (["compare", "defualt"], "no released optimizer 'defualt'. Did you mean 'default'?"),
        (["compare", "missing.safetensors"], "missing.safetensors"),
        (["evaluate", "default", "--suite", "tests"], "meta-train, validation, test"),
        (["evaluate", "default", "--steps", "100", "--out", "figures"], "--out must be a file that ends with .json"),
        (["evaluate", "default", "--task", "iris-mlp"], "--task must be of the suite 'test', got 'iris-mlp'"),
        (["plot", "nowhere"], "the folder that 'train --out' wrote to"),
        (["tasks", "--suite", "tests"], "meta-train, validation, test"),
        (["tasks", "--data-dir", "nowhere"], "--data-dir must be a folder, got nowhere"),
        (["train", "demo", "--process-id", "1"], "--coordinator and --process-id go together"),
    ],
)
def test_bad_arguments_are_answered_with_what_would_be_right(arguments, hint, capsys):
    assert run(*arguments) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("command", ["demo", "train", "watch", "runs", "evaluate", "compare", "tasks", "plot"])
def test_help_teaches(command, capsys):
    assert run(command, "--help") == 0
    assert "Usage: meta-train" in capsys.readouterr().out


def test_help_and_tasks_under_ascii(monkeypatch):
    monkeypatch.setattr(tasks, "suite", lambda name: ("mnist-conv",))
    for arguments, part in ((("tasks", "--suite", "test"), b"mnist 14?14"), (("train", "--help"), b"600 outer steps")):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
        assert run(*arguments) == 0
        assert part in sys.stdout.buffer.getvalue()


@pytest.mark.parametrize(
    ("error", "status", "printed"),
    [
        (PermissionError(13, "Permission denied", "curves.png"), 2, "Permission denied: 'curves.png'"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (ValueError("a rule"), 2, "meta-train: a rule\n"),
        (KeyboardInterrupt(), "ended at once with 130", ""),
    ],
)
def test_what_goes_wrong_is_told_without_a_traceback(error, status, printed, capsys, monkeypatch, tmp_path):
    def fail(folder):
        raise error

    monkeypatch.setattr(demo, "run", fail)
    assert run("demo", "--out", tmp_path) == status
    text = capsys.readouterr().err
    assert printed in text
    assert "Traceback" not in text


def test_warnings_are_told_without_lines_of_our_sources(capsys, monkeypatch):
    original = warnings.formatwarning
    said = lambda **_: print(warnings.formatwarning("that is long", UserWarning, "ours.py", 3), end="")
    monkeypatch.setattr(cli, "app", said)
    assert run("tasks") == 0
    assert capsys.readouterr().out == "meta-train: that is long\n"
    assert warnings.formatwarning is original


def test_train_with_other_outer_optimizers(tmp_path, capsys):
    recipe = tmp_path / "mine.py"
    recipe.write_text(RECIPE)
    sgd, file = learned_optim.learned_sgd(), tmp_path / "sgd.safetensors"
    learned_optim.save(file, sgd, sgd.init(None))
    for outer, reports in (("adamw", 4), (f"learned:{file}", 4), ("live", 4), ("population:3", 5)):
        out = tmp_path / outer.partition(":")[0]
        arguments = ("train", recipe, "--out", out, "--outer", outer, "--trust-ratio", 0.1)
        assert run(*arguments, "--steps", 3) == 0
        assert run(*arguments, "--steps", 4, "--resume") == 0
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows] == [1, 2, 3, 4]
        assert sum(name.startswith("outer/") for name in rows[0]) == reports
        assert np.isfinite(learned_optim.load(out / "theta.safetensors")[1]["log_learning_rate"])
        assert run("plot", out) == 0
    capsys.readouterr()
    assert run("train", recipe, "--outer", "sgd") == 2
    assert "must be adamw[:RATE], learned:NAME, live or population[:MEMBERS], got 'sgd'" in capsys.readouterr().err
    assert run("train", recipe, "--max-rise", 1.0) == 2
    assert "give --outer as well" in capsys.readouterr().err
