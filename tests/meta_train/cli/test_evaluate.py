"""`meta-train evaluate`: what is refused before any work, tasks whose data are missing, Ctrl-C."""

import json

import pytest

from meta_train import data
from meta_train import tasks
from meta_train.cli import evaluate as command
from meta_train.cli import named_task
from meta_train.data import tfds
from meta_train.evaluation import baselines
from meta_train.evaluation import protocol
from meta_train.evaluation import timing
from meta_train.evaluation import tuning
from meta_train.tasks import at_hand

QUICK = ("--steps", 100, "--seeds", 1, "--baseline", "adam-1e-3")


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    monkeypatch.setattr(tfds, "read", lambda name: None)
    monkeypatch.setattr(tfds, "installed", lambda: False)
    monkeypatch.delenv(data.DATA_DIR_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def no_work(monkeypatch):
    monkeypatch.setattr(protocol, "judge", None)
    monkeypatch.setattr(tasks.suites, "get", None)


def test_tasks_without_data_are_left_out_and_named(run, no_data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tasks, "suite", lambda name, embedded=False: ("wine-softmax", "cifar-mlp", "yacht-mlp"))
    assert run("evaluate", "default", *QUICK, "--out", tmp_path / "figures.json") == 0
    output = capsys.readouterr()
    assert "2 of 3 tasks left out, for their data are not at hand: cifar-mlp, yacht-mlp.\n" in output.err
    for way in ("They need cifar10, yacht:", "--data-dir", "let tensorflow-datasets bring cifar10: pip install"):
        assert way in output.err
    for part in ("wine-softmax, 100 steps, 1 seed\n", "100 steps: default on 1 task\n", "data: cifar-mlp, yacht-mlp\n"):
        assert part in output.out
    title = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["title"]
    assert title == "default: suite test, 1 of 3 tasks, 100 steps, 1 seed"


def test_tasks_that_were_asked_for_by_name_must_be_there(run, no_data, capsys, monkeypatch):
    monkeypatch.setattr(protocol, "judge", None)
    arguments = ("--task", "wine-softmax", "--task", "yacht-mlp")
    assert run("evaluate", "default", *arguments, *QUICK) == 2
    error = capsys.readouterr().err
    assert "1 of 2 tasks left out, for their data are not at hand: yacht-mlp." in error
    assert run("evaluate", "default", "--task", "yacht-mlp", *QUICK) == 2
    assert "1 of 1 task left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["default", "--baseline", "adamm"], "no baseline 'adamm'. Did you mean 'adam'? Choose from adam, "),
        (["default", "--baseline", ""], "no baseline ''. Choose from adam, "),
        (["default", "--suite", "tset"], "no suite 'tset'. Did you mean 'test'? Choose from meta-train, "),
        (["default", "--task", "rosenbrok"], "got 'rosenbrok'. Did you mean 'rosenbrock'? Choose from digits-"),
        (["default", "--task", "iris-mlp"], "got 'iris-mlp'. It is in another one: give --suite validation. "),
        (["default", "--task", "pol-mlp", "--embedded"], "Its data need files: leave --embedded out. Choose from"),
        (["default", "--out", "figures.csv"], "--out must be a file that ends with .json, got figures.csv"),
        (["default", "--out", "file/figures.json"], "file is no folder"),
        (["defualt"], "no released optimizer 'defualt'. Did you mean 'default'? Give a released name, a"),
        (["runs/mine"], "no file or folder runs/mine"),
        (["empty"], "the folder empty has no theta.safetensors"),
        ([""], "no released optimizer ''"),
        (["default", "--data-dir", "file"], "--data-dir must be a folder, got file"),
    ],
)
def test_refused_before_any_work(arguments, hint, run, no_work, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    assert run("evaluate", *arguments) == 2
    error = capsys.readouterr().err
    assert hint in error
    assert "learned_optim.load" not in error


def test_a_folder_of_data_that_does_not_exist_is_not_taken_for_missing_data(run, no_data, capsys, monkeypatch):
    monkeypatch.setenv(data.DATA_DIR_VARIABLE, "no-such-folder")
    assert run("evaluate", "default", *QUICK) == 2
    assert "no-such-folder" in capsys.readouterr().err


def test_ctrl_c_says_how_to_go_on(run, capsys, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "judge_suite", stop)
    assert run("evaluate", "default", "--task", "rosenbrock") == 130
    assert capsys.readouterr().err == "Stopped. What baselines gave is kept: the same command goes on from there.\n"


@pytest.mark.optax_promotion
def test_a_model_of_ones_own(run, sgd, cache, model, tmp_path, capsys):
    arguments = ("--steps", 2, "--seeds", 1, "--baseline", "adam-1e-3", "--out", tmp_path / "figures.json")
    assert run("evaluate", sgd, "--task", model(), *arguments) == 0
    assert "\nmine, 2 steps, 1 seed\n" in capsys.readouterr().out
    found = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert found["title"] == f"{sgd}: mine, 2 steps, 1 seed"
    assert list(found["horizons"]["2"]["tasks"]) == ["mine"]


@pytest.mark.parametrize(
    ("others", "names", "rivals"),
    [(["other.py"], ["mine", "other"], named_task.RIVALS), (["rosenbrock"], ["mine", "rosenbrock"], baselines.USUAL)],
    ids=["two files", "a file and a named task"],
)
def test_which_tasks_and_rivals_there_are(others, names, rivals, run, sgd, model, tmp_path, monkeypatch):
    asked = {}

    def judge_suite(chosen, contenders, **rest):
        asked.update(rest, names=[task.name for task in chosen])
        return {}

    monkeypatch.setattr(command, "judge_suite", judge_suite)
    monkeypatch.chdir(tmp_path)
    model(name="other.py")
    assert run("evaluate", sgd, "--task", model(), *[part for other in others for part in ("--task", other)]) == 0
    assert asked["names"] == names and asked["horizons"] == (1000,) and asked["num_seeds"] == 5
    assert asked["baselines"] == rivals


def test_a_harder_judge_by_options(run, sgd, model, monkeypatch):
    asked = {}
    monkeypatch.setattr(command, "judge_suite", lambda chosen, contenders, **rest: asked.update(rest) or {})
    monkeypatch.setattr(timing, "time_tasks", lambda *work, **rest: asked.update(timed=work))
    task = model()
    names = [part for name in ("adamw-cosine", "lion") for part in ("--baseline", name)]
    assert run("evaluate", sgd, "--task", task, *names) == 0
    assert asked["baselines"] == ("adamw-cosine", "lion") and not asked["halves"] and "timed" not in asked
    assert run("evaluate", sgd, "--task", task, *names, "--tuning", "full", "--halves", "--seconds") == 0
    assert asked["baselines"] == ("adamw-cosine", "adamw-trials", "lion") and asked["halves"]
    chosen, contenders, rivals = asked["timed"]
    assert ([each.name for each in chosen], list(contenders)) == (["mine"], [str(sgd)])
    assert rivals == asked["baselines"]


def test_the_suite_large_has_its_own_rivals_and_fewer_runs(run, sgd, capsys, monkeypatch):
    asked = {}
    loads = lambda names: at_hand.AtHand([tasks.quadratic(name) for name in names], {}, ())
    monkeypatch.setattr(
        command, "judge_suite", lambda chosen, contenders, **rest: asked.update(rest, chosen=chosen) or {}
    )
    monkeypatch.setattr(at_hand, "load", loads)
    assert run("evaluate", sgd, "--suite", "large", "--steps", 1000, "--steps", 4000) == 0
    assert [task.name for task in asked["chosen"]] == [name for name in tasks.suite("large") if name not in tasks.HUGE]
    assert (
        "shakespeare-transformer-11m is left out, for a run takes hours: name it with --task.\n"
        in capsys.readouterr().err
    )
    assert asked["baselines"] == baselines.FOR_LARGE and 3 < len(asked["baselines"]) <= 7
    assert (asked["num_seeds"], asked["tuning_seeds"], asked["pacemakers"]) == (3, 1, ())
    assert asked["learning_rates"] == baselines.LARGE_LEARNING_RATES
    assert run("evaluate", sgd, "--suite", "large", "--task", "shakespeare-transformer-11m", "--baseline", "adam") == 0
    assert [task.name for task in asked["chosen"]] == ["shakespeare-transformer-11m"]
    assert asked["baselines"] == ("adam",) and "left out" not in capsys.readouterr().err
    assert run("evaluate", sgd, "--task", "rosenbrock") == 0
    assert (asked["num_seeds"], asked["tuning_seeds"]) == (5, tuning.NUM_SEEDS)
    assert asked["pacemakers"] == protocol.PACEMAKERS and asked["baselines"] == baselines.USUAL


@pytest.mark.optax_promotion
def test_the_prior_is_judged_if_asked_for(run, sgd, cache, model, tmp_path, capsys):
    """SGD as it was saved is its own prior: both have the same losses, and it is no rival in the verdict."""
    out = tmp_path / "figures.json"
    arguments = ("--steps", 2, "--seeds", 1, "--baseline", "adam-1e-3", "--out", out)
    assert run("evaluate", sgd, "--task", model(), *arguments, "--prior") == 0
    text = capsys.readouterr().out
    assert "to that of Adam 1e-3, not tuned, over 1 task\n" in text
    assert text.partition("\n2 steps: ")[2].count(", before training") == 1  # in the summary alone
    found = json.loads(out.read_text(encoding="utf-8"))["horizons"]["2"]
    assert found["prior"]["log_ratio"] == found["prior"]["prior_log_ratio"] < 0
    assert found["prior"]["prior"] == f"{sgd}, before training"
    assert len(found["time_to_target"][0]["standings"]) == 2


def test_two_tasks_of_one_name_are_refused(run, sgd, model, capsys, no_work):
    path = model(name="rosenbrock.py")
    assert run("evaluate", sgd, "--task", path, "--task", "rosenbrock") == 2
    assert f"two are named 'rosenbrock'. Rename {path}." in capsys.readouterr().err


@pytest.mark.optax_promotion
def test_for_machines_there_is_json_and_nothing_else(run, sgd, cache, tmp_path, capsys):
    out = tmp_path / "figures.json"
    arguments = ("--task", "quadratic", "--suite", "meta-train", "--steps", 3, "--seeds", 1, "--baseline", "adam-1e-3")
    assert run("evaluate", sgd, *arguments, "--quiet", "--json", "--out", out) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert captured.err == ""
    written = json.loads(out.read_text())
    assert found == written | {"left_out": [], "files": found["files"]}
    assert found["files"][0] == str(out) and len(found["files"]) == 4
    assert [each["optimizer"] for each in found["horizons"]["3"]["tasks"]["quadratic"]] == [str(sgd), "Adam 1e-3"]
