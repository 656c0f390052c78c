"""From a model to an optimizer of its own: all phases, at a size that compiles quickly."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_optim
import meta_train
from meta_train import tasks
from meta_train.adaptation import adapt as adaptation
from meta_train.adaptation import calibration
from meta_train.adaptation import choice
from meta_train.adaptation import search


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(calibration, "widths", lambda *arguments, **options: (4,))
    monkeypatch.setattr(search, "_MOST_GENERATIONS", 2)
    monkeypatch.setattr(search, "_MOST_SEEDS", 1)


def line():
    """A line through points: its final loss falls a lot with other constants, alike for all seeds."""
    x = np.linspace(-1.0, 1.0, 40, dtype=np.float32)[:, None]
    return tasks.from_functions(
        "line",
        init=lambda key: {"w": 0.1 * jax.random.normal(key, (1, 1))},
        loss=lambda params, batch, key: jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2) + 1e-3,
        data={"x": x, "y": 3.0 * x},
        batch_size=8,
    )


ARGUMENTS = {"minutes": 2.0, "num_steps": 12, "rivals": ()}


def test_all_phases_and_a_run_that_was_stopped_before_the_choice(tmp_path, monkeypatch):
    out, lines = tmp_path / "mine", []
    with monkeypatch.context() as patch:
        patch.setattr(choice, "measured", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            meta_train.adapt(line(), out=out, **ARGUMENTS)
    before = (out / "journal.jsonl").read_text(encoding="utf-8")
    out = out.rename(tmp_path / "elsewhere")
    adapted = meta_train.adapt(line(), out=out, resume=True, progress=lines.append, command="a command", **ARGUMENTS)
    after = (out / "journal.jsonl").read_text(encoding="utf-8")
    new = [json.loads(line)["name"] for line in after.removeprefix(before).splitlines()]
    assert after.startswith(before)
    assert new[:2] == ["choice", "point"] and all(name.startswith("told ") for name in new[2:]) and len(new) > 2
    report = adapted.report
    assert report["gain"] and report["objective"] == "training" and not report["has_held_out"]
    assert report["search"]["generations"] == 2 and len(report["choice"]) == 5
    assert (
        report["verdict"]["sure"]
        and report["verdict"]["change"] < -0.1
        and report["verdict"]["speedup_on_the_way"] > 1.0
    )
    assert json.loads((out / "report.json").read_text(encoding="utf-8")) == report
    assert (out / "curves.png").stat().st_size > 10_000
    assert "Chosen for 2 minutes: a search by about" in lines[0] and lines[-1].endswith("curves.png")

    optimizer, theta = learned_optim.load(out / "theta.safetensors")
    assert optimizer.spec == adapted.optimizer.spec
    jax.tree.map(np.testing.assert_array_equal, theta, adapted.theta)
    default = learned_optim.load_pretrained()[1]
    assert any(np.any(one != other) for one, other in zip(*map(jax.tree.leaves, (theta, default)), strict=True))
    jax.tree.map(np.testing.assert_array_equal, theta["unknown_horizon"], default["unknown_horizon"])
    tx = learned_optim.learned_optimizer(str(out), num_steps=12)
    assert tx.init({"w": jnp.ones((1, 1))}) is not None

    card = (out / "card.md").read_text(encoding="utf-8")
    assert "| trained horizon | 12 steps |" in card and "`a command`" in card and "no held-out data" in card
    with pytest.raises(ValueError, match="holds an adaptation already"):
        meta_train.adapt(line(), out=out, **ARGUMENTS)
    with pytest.raises(ValueError, match=r"with other settings: 1 setting \(seed\)"):
        meta_train.adapt(line(), out=out, resume=True, seed=1, **ARGUMENTS)


def test_no_gain_keeps_the_default(tmp_path, monkeypatch):
    """What the choice finds worse than the default is not released, whatever the search thought of it."""
    measured = choice.measured
    worse = lambda *arguments: measured(*arguments) + np.array([[0.0], *[[9.0]] * 5])
    monkeypatch.setattr(choice, "measured", worse)
    adapted = meta_train.adapt(line(), out=tmp_path, **ARGUMENTS)
    assert not adapted.report["gain"] and adapted.report["changed"] == {}
    assert not any(each["chosen"] for each in adapted.report["choice"])
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "curves.png",
        "journal.jsonl",
        "report.json",
    ]
    assert [path.name[:4] for path in (tmp_path / "verdict").iterdir()] == ["own-"]
    jax.tree.map(np.testing.assert_array_equal, adapted.theta, learned_optim.load_pretrained()[1])


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"minutes": 0.0}, "minutes must be positive, got 0.0"),
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"objective": "held out"}, "objective must be 'held-out' or 'training', got 'held out'"),
        ({"objective": "held-out"}, "line has no held-out data for the objective 'held-out': define held_out"),
        ({"rivals": ("adamm",)}, "no baseline 'adamm'. Did you mean 'adam'?"),
    ],
)
def test_arguments_out_of_range(arguments, hint, monkeypatch):
    monkeypatch.setattr(adaptation, "_work", None)
    with pytest.raises(ValueError, match=hint):
        meta_train.adapt(line(), **{**ARGUMENTS, **arguments})
