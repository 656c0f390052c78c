"""The wheel, installed without extras into an empty environment, is the library with its weights and no more."""

import email
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

ROOT = pathlib.Path(__file__).parents[2]

# Run by the new environment's Python, in a folder that holds nothing of the checkout.
_USE = """
import importlib.metadata, importlib.util, pathlib, sysconfig
import jax, jax.numpy as jnp, optax
import learned_optim

site = pathlib.Path(sysconfig.get_path("purelib"))
assert pathlib.Path(learned_optim.__file__).is_relative_to(site), learned_optim.__file__
assert importlib.metadata.version("learned_optim") == learned_optim.__version__
for name in ("sklearn", "orbax", "tqdm", "matplotlib", "typer", "pretrained", "tests", "benchmarks"):
    assert importlib.util.find_spec(name) is None, name
assert not (site / "pretrained").exists()

names = learned_optim.list_pretrained()
assert {"adam-residual-schedule-v1", "adaptive-muon-scanned-v1", "mlp-digits-v1"} <= set(names), names
for name in names:
    assert "| sha256 |" in learned_optim.card(name)

tx = optax.chain(optax.clip_by_global_norm(1.0), learned_optim.learned_optimizer())
loss = lambda params: jnp.sum(jnp.square(params["w"] - 1.0)) + jnp.square(params["b"])
params = {"w": jnp.zeros((3, 2)), "b": jnp.zeros(())}
state = tx.init(params)
step = jax.jit(lambda params, state: tx.update(jax.grad(loss)(params), state, params))
before = float(loss(params))
for _ in range(50):
    updates, state = step(params, state)
    params = optax.apply_updates(params, updates)
assert float(loss(params)) < before, (before, float(loss(params)))
print("learned")
"""


def _run(*command, cwd):
    """Standard output of a command that must succeed, with no Python setting of this process and no PYTHONPATH."""
    command = [str(part) for part in command]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command} failed:\n{result.stdout}{result.stderr}"
    return result.stdout


def _copy_checkout(destination):
    """Copies what git tracks or would track, so that building leaves the checkout clean and finds no stale output."""
    names = _run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in names.split("\0"):
        if (ROOT / name).is_file():
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, destination / name)


def _check_contents(wheel, source):
    """The wheel holds all modules and type markers, and metadata that a package index shows without a broken link."""
    archive = zipfile.ZipFile(wheel)
    names = set(archive.namelist())
    modules = {
        str(path.relative_to(source))
        for name in ("learned_optim", "meta_train")
        for path in source.glob(f"{name}/**/*.py")
    }
    assert len(modules) > 150
    assert modules - names == set(), "add the package to setup.cfg"
    assert {"learned_optim/py.typed", "meta_train/py.typed"} <= names
    assert not any(name.startswith(("tests/", "benchmarks/", "pretrained/")) for name in names)

    (path,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_string(archive.read(path).decode("utf-8"))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert "Typing :: Typed" in metadata.get_all("Classifier")
    assert metadata["Description-Content-Type"].startswith("text/markdown")
    description = metadata.get_payload()
    assert "optax.chain" in description
    assert re.findall(r"\]\((?!https:)[^)]*\)|<img|<a ", description) == []


def test_wheel_without_extras(tmp_path):
    source, wheels, environment, elsewhere = (tmp_path / name for name in ("source", "wheels", "venv", "elsewhere"))
    elsewhere.mkdir()
    _copy_checkout(source)
    pip = ("-m", "pip", "--disable-pip-version-check", "--quiet")
    _run(sys.executable, *pip, "wheel", "--no-deps", "--wheel-dir", wheels, source, cwd=elsewhere)
    (wheel,) = wheels.iterdir()
    _check_contents(wheel, source)

    _run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=elsewhere)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    pip = (*pip, "--python", scripts / "python")
    _run(sys.executable, *pip, "install", "--no-compile", wheel, cwd=elsewhere)  # few modules of jax are imported
    _run(sys.executable, *pip, "check", cwd=elsewhere)
    assert _run(scripts / "python", "-c", _USE, cwd=elsewhere) == "learned\n"

    listed = _run(scripts / "learned-optim", "list", cwd=elsewhere)
    (default,) = (line for line in listed.splitlines() if line.endswith("(default)"))
    assert default.startswith("adaptive-muon-scanned-v1 ")
    assert "trained horizon" in _run(scripts / "python", "-m", "learned_optim", "card", cwd=elsewhere)

    refused = subprocess.run(
        [scripts / "meta-train", "--help"], cwd=elsewhere, capture_output=True, encoding="utf-8", check=False
    )
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("meta-train: meta_train needs packages that are not installed: matplotlib, ")
    assert "pip install '.[meta]'" in refused.stderr
