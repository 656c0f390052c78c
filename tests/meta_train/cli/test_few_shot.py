"""`meta-train few-shot` from end to end at a tiny size: files, pictures, resume, and errors before any work."""

import json
import shutil

import matplotlib.image
import numpy as np
import pytest
import safetensors.numpy

from meta_train.cli import few_shot
from meta_train.cli import few_shot_data
from meta_train.cli import few_shot_judging
from meta_train.few_shot import perceptron
from meta_train.recipes import few_shot as recipes

FILES = {"theta.safetensors", "report.json", "curves.png", "episode.png", "metrics.jsonl", "checkpoints", "run.json"}
pytestmark = pytest.mark.optax_promotion


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Few episodes, and small networks."""
    monkeypatch.setattr(few_shot_judging, "NUM_EPISODES", 20)
    monkeypatch.setattr(few_shot_data, "conv4", lambda ways, channels, strided: perceptron(ways, (channels,)))
    monkeypatch.setattr(few_shot_data, "perceptron", lambda outputs: perceptron(outputs, (4,)))


def test_pictures(run, tmp_path, capsys):
    out = tmp_path / "new" / "run"
    arguments = ("--ways", 3, "--shots", 2, "--queries", 4, "--channels", 4, "--steps", 3, "--out", out, "--seed", 5)
    assert run("few-shot", "fomaml", *arguments) == 0
    text, told = capsys.readouterr()
    assert {path.name for path in out.iterdir()} >= FILES
    assert "digits-3-way-2-shot, 20 held-out episodes" in text and "nearest neighbour, pixels" in text
    assert "from scratch" in text and "Judging on 20 held-out episodes" in told
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert (report["method"], report["ways"], report["shots"], report["seed"]) == ("fomaml", 3, 2, 5)
    assert report["command"].startswith("python -m meta_train few-shot fomaml --ways 3")
    assert {row["name"] for row in report["evaluation"]} == {"fomaml", "nearest neighbour, pixels", "from scratch"}
    assert {row["inner_steps"] for row in report["evaluation"]} == {0, 1, 10, None, 50}
    theta = safetensors.numpy.load_file(out / "theta.safetensors")
    assert sorted(theta) == ["head/b", "head/w", "linear_0/b", "linear_0/w"]
    assert report["weights"] == sum(tensor.size for tensor in theta.values()) == 64 * 4 + 4 + 4 * 3 + 3
    for name in ("curves.png", "episode.png"):
        assert np.ptp(matplotlib.image.imread(out / name)) > 0.5, name


def test_sinusoids_resumed_end_where_they_would_have_ended(run, tmp_path, capsys):
    once, twice, copy = (tmp_path / name for name in ("once", "twice", "copy"))
    arguments = ("--data", "sinusoid", "--shots", 5, "--episodes", 2, "--quiet", "--json")
    assert run("few-shot", "maml", *arguments, "--steps", 20, "--out", once) == 0
    printed, told = capsys.readouterr()
    assert told == ""
    assert json.loads(printed) == json.loads((once / "report.json").read_text(encoding="utf-8"))
    assert {(row["name"], row["inner_steps"]) for row in json.loads(printed)["evaluation"]} == {
        *(("maml", steps) for steps in (0, 1, 10)),
        *(("pretrained on all tasks", steps) for steps in (1, 10)),
    }
    assert np.ptp(matplotlib.image.imread(once / "episode.png")) > 0.5
    assert run("few-shot", "maml", *arguments, "--steps", 10, "--no-rivals", "--out", twice) == 0
    shutil.copytree(twice, copy)
    assert run("few-shot", "maml", *arguments, "--steps", 20, "--no-rivals", "--out", twice, "--resume") == 0
    names = {row["name"] for row in json.loads((twice / "report.json").read_text(encoding="utf-8"))["evaluation"]}
    assert names == {"maml"}
    of = lambda folder: (folder / "theta.safetensors").read_bytes()
    assert of(twice) == of(once) != of(copy)
    assert run("few-shot", "maml", *arguments, "--steps", 20, "--out", twice) == 2
    assert "already holds a run: pass resume=True (--resume)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["mmaml"], "no few-shot method 'mmaml'. Did you mean 'maml'? Choose from maml, fomaml, "),
        (["maml", "--ways", "17"], "17 ways need as many classes, and the part 'test' of 'digits' has 16"),
        (["maml", "--ways", "1"], "--ways must be at least 2"),
        (["maml", "--shots", "0"], "shots must be at least 1, got 0"),
        (["maml", "--data", "sinusoid", "--ways", "5"], "--ways is for pictures"),
        (["maml", "--data", "cifar"], "is not one of 'digits', 'omniglot', 'sinusoid'"),
        (["comln", "--data", "sinusoid"], "labels"),
        (["maml", "--inner-steps", "0"], "Invalid value for '--inner-steps'"),
        (["maml", "--episodes", "0"], "Invalid value for '--episodes'"),
        (["maml", "--outer-rate", "0"], "--outer-rate must be positive, got 0.0"),
        (["maml", "--outer-rate", "nan"], "--outer-rate must be positive, got nan"),
        (["maml", "--seed", "4294967296"], "Invalid value for '--seed'"),
        (["maml", "--steps", "0"], "Invalid value for '--steps'"),
        (["maml", "--data-dir", "{file}"], "--data-dir must be a folder"),
        (["maml", "--out", "{file}"], "is no folder"),
    ],
)
def test_refused_before_any_work(arguments, hint, run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(few_shot, "fit", lambda *given, **options: pytest.fail("worked"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert run("few-shot", *(argument.format(file=tmp_path / "file") for argument in arguments)) == 2
    assert hint in capsys.readouterr().err


def test_omniglot_that_is_not_at_hand(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("meta_train.data.tfds.read_examples", lambda *arguments: None)
    assert run("few-shot", "maml", "--data", "omniglot", "--data-dir", tmp_path, "--out", tmp_path / "run") == 2
    assert "Omniglot is not at hand" in capsys.readouterr().err


def test_ctrl_c(run, tmp_path, capsys, monkeypatch):
    def stop(*given, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(few_shot, "fit", stop)
    assert run("few-shot", "maml", "--data", "sinusoid", "--out", tmp_path / "run") == 130
    assert "Go on with the same command and --resume" in capsys.readouterr().err


def test_help_has_a_line_on_each_method(run, capsys):
    assert run("few-shot", "--help") == 0
    text = capsys.readouterr().out
    for method in recipes.METHODS:
        assert f"\n    {method}: " in text
