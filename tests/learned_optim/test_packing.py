"""Folders of optimizers: what is written, what is refused, and what is found out when they are read."""

import hashlib
import json
import pathlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_optim
from learned_optim import __main__ as command_line
from learned_optim import packing
from learned_optim import released

PARAMS = jnp.array([1.0, -2.0])


@pytest.fixture
def made():
    optimizer = learned_optim.learned_sgd(0.5)
    return optimizer, optimizer.init(jax.random.key(0))


def _update(name, **options):
    tx = learned_optim.learned_optimizer(name, **options)
    return tx.update(PARAMS, tx.init(PARAMS), PARAMS)[0]


def test_a_folder_is_used_like_a_name(made, tmp_path, monkeypatch):
    monkeypatch.setattr(released, "_warned", set())
    folder = learned_optim.pack(made, tmp_path / "new" / "sgd-mine-v1", horizon=(10, 100))
    held = json.loads((folder / "manifest.json").read_text())
    weights = (folder / "theta.safetensors").read_bytes()
    assert held == {
        "format": 1,
        "name": "sgd-mine-v1",
        "sha256": hashlib.sha256(weights).hexdigest(),
        "trained_horizon": [10, 100],
        "package": None,
    }
    assert [path.name for path in folder.parent.iterdir()] == ["sgd-mine-v1"]
    monkeypatch.chdir(folder.parent)
    for name in (folder, str(folder), "sgd-mine-v1"):
        np.testing.assert_array_equal(_update(name, num_steps=10), -0.5 * PARAMS)
        assert learned_optim.load_pretrained(name)[0].spec == made[0].spec
        card = learned_optim.card(name)
        assert card.startswith("# sgd-mine-v1\n") and f"| sha256 | {held['sha256']} |" in card
        assert "| trained horizon | 10–100 steps |" in card
    with pytest.warns(UserWarning, match=r"sgd-mine-v1' was made for runs of 10 to 100 steps; num_steps=101"):
        learned_optim.learned_optimizer(folder, num_steps=101)


def test_files_and_runs_are_packed(made, tmp_path):
    run = tmp_path / "run"
    learned_optim.save(run / "theta.safetensors", *made)
    (run / "run.json").write_text('{"seed": 7, "tasks": ["digits-mlp", "quadratic"]}')
    for number, source in enumerate((run, run / "theta.safetensors", str(run / "theta.safetensors"))):
        folder = learned_optim.pack(source, tmp_path / f"v{number}", name="other")
        assert packing.manifest(folder).name == "other"
        np.testing.assert_array_equal(_update(folder), -0.5 * PARAMS)
    assert "| tasks | digits-mlp, quadratic |\n| seeds | 7 |" in learned_optim.card(tmp_path / "v0")
    again = learned_optim.pack(tmp_path / "v0", tmp_path / "again")
    assert packing.manifest(again).sha256 == packing.manifest(folder).sha256
    np.testing.assert_array_equal(_update(run), -0.5 * PARAMS)  # the folder of a run has no manifest


def test_a_card_of_ones_own_says_the_horizon_and_may_be_changed(made, tmp_path):
    text = "# mine\n\n| trained horizon | 20 steps |\n"
    (tmp_path / "mine.md").write_text(text)
    for number, card in enumerate((text, tmp_path / "mine.md", str(tmp_path / "mine.md"))):
        folder = learned_optim.pack(made, tmp_path / str(number), card=card)
        assert learned_optim.card(folder) == text
        assert packing.manifest(folder).trained_horizon == (20, 20)
    (folder / "card.md").write_text("# changed\n")
    assert learned_optim.card(folder) == "# changed\n"
    with warnings.catch_warnings(action="error"):
        learned_optim.learned_optimizer(folder, num_steps=20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "a/b"}, "name must be of letters"),
        ({"name": ""}, "name must be of letters"),
        ({"horizon": (5, 2)}, r"horizon must be two whole numbers, .*got \(5, 2\)"),
        ({"horizon": (0, 2)}, "horizon must be two whole numbers"),
        ({"horizon": 5}, "horizon must be two whole numbers"),
        ({"card": "none.md"}, "there is no card none.md"),
    ],
)
def test_bad_arguments_leave_nothing(made, tmp_path, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        learned_optim.pack(made, tmp_path / "v1", **options)
    assert list(tmp_path.iterdir()) == []


def test_bad_sources_leave_nothing(made, tmp_path):
    optimizer, theta = made
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    diverged = optimizer, jax.tree.map(lambda leaf: leaf * jnp.nan, theta)
    for source, error, message in (
        (optimizer, TypeError, "an optimizer needs its theta"),
        ((optimizer, theta, 0), ValueError, "a tuple of 3"),
        (diverged, ValueError, "theta must be finite"),
        (tmp_path / "none", FileNotFoundError, "no file .*none"),
        (tmp_path / "run", FileNotFoundError, "has not come to its end"),
        (tmp_path, FileNotFoundError, "holds no theta.safetensors"),
    ):
        with pytest.raises(error, match=message):
            learned_optim.pack(source, tmp_path / "v1")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    with pytest.raises(ValueError, match=r"folder must be new or empty, got .*run"):
        learned_optim.pack(made, tmp_path / "run")
    (tmp_path / "empty").mkdir()
    assert packing.manifest(learned_optim.pack(made, tmp_path / "empty")).name == "empty"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": 1, "name": "a", "sha256": 3}', '{"format": 1, "name": "a"', "\x80"]
)
def test_a_damaged_manifest_is_named(made, tmp_path, text):
    folder = learned_optim.pack(made, tmp_path / "v1")
    (folder / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        learned_optim.learned_optimizer(folder)


def test_a_manifest_of_a_later_format_and_missing_or_exchanged_weights(made, tmp_path):
    folder = learned_optim.pack(made, tmp_path / "v1")
    manifest = folder / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match="has format 2, this version reads 1: upgrade"):
        learned_optim.load_pretrained(folder)
    manifest.write_text(text)
    other = learned_optim.learned_sgd(0.25)
    learned_optim.save(folder / "theta.safetensors", other, other.init(jax.random.key(0)))
    with pytest.raises(ValueError, match=r"its sha256 is .*, and should be .*damaged or exchanged"):
        learned_optim.load_pretrained(folder)
    (folder / "theta.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no theta.safetensors"):
        learned_optim.load_pretrained(folder)


def test_one_whose_architecture_is_missing_names_its_package(made, tmp_path):
    folder = learned_optim.pack(made, tmp_path / "v1")
    held = json.loads((folder / "manifest.json").read_text())
    text = (folder / "theta.safetensors").read_bytes().replace(b"learned_sgd", b"learned_xyz")
    (folder / "theta.safetensors").write_bytes(text)
    held |= {"sha256": hashlib.sha256(text).hexdigest(), "package": "small-optimizers 0.1.0"}
    (folder / "manifest.json").write_text(json.dumps(held))
    with pytest.raises(ValueError, match=r"Its architecture is that of the package small-optimizers 0\.1\.0\.$"):
        learned_optim.load_pretrained(folder)


def test_the_command(made, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learned_optim.save("mine.safetensors", *made)
    assert command_line.main(["pack", "mine.safetensors", "sgd-v1", "--horizon", "5", "9"]) == 0
    path = pathlib.Path("sgd-v1")
    assert capsys.readouterr().out == (
        f'Wrote sgd-v1. Complete {path / "card.md"}. Use it: learned_optim.learned_optimizer("sgd-v1")\n'
    )
    assert packing.manifest(path).trained_horizon == (5, 9)
    assert command_line.main(["card", "sgd-v1"]) == 0
    assert capsys.readouterr().out == learned_optim.card("sgd-v1") + "\n"
    for arguments, message in (
        (["pack", "mine.safetensors", "sgd-v1"], "folder must be new or empty"),
        (["card", "mine.safetensors"], "mine.safetensors has no card"),
    ):
        with pytest.raises(SystemExit) as error:
            command_line.main(arguments)
        assert error.value.code == 2 and message in capsys.readouterr().err
