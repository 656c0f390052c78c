"""Whether `adapt` and `tune` work from an installed wheel, outside of a checkout: builds one, installs it, runs both.

The wheel goes into a virtual environment of its own, which finds the packages of the present one, but not the checkout.
Nothing is downloaded. The model is the example of docs/your-own-model.md.

    python benchmarks/from_wheel.py [--minutes 3] [--steps 50] [--folder FOLDER]
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Run by the new environment's Python: the library is the installed one, and the result of `adapt` can be used.
USE = """
import json, pathlib, sys, sysconfig
import jax, jax.numpy as jnp
import learned_optim, meta_train
site = sysconfig.get_path("purelib")
for package in (learned_optim, meta_train):
    assert pathlib.Path(package.__file__).is_relative_to(site), package.__file__
report = json.loads(pathlib.Path("runs/adapt/mine/report.json").read_text())
tx = learned_optim.learned_optimizer("runs/adapt/mine" if report["gain"] else None, num_steps=report["num_steps"])
params = {"w": jnp.ones((3, 2))}
updates, _ = tx.update(params, tx.init(params), params)
assert jnp.isfinite(updates["w"]).all()
assert "mine" in json.loads(pathlib.Path("runs/tune/mine/report.json").read_text())["task"]
"""


def run(*command, cwd, environment):
    """Runs a command that must succeed; its output is shown."""
    print("$", *map(str, command), flush=True)
    subprocess.run([str(part) for part in command], cwd=cwd, env=environment, check=True)


def install(folder, environment):
    """Builds the wheel and installs it into a new environment. Returns the Python of that."""
    venv = folder / "venv"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    source = folder / "source"  # since building leaves files where it builds
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, env=environment, check=True, capture_output=True, encoding="utf-8").stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    run(*pip, "wheel", "--no-deps", "--wheel-dir", folder / "wheels", source, cwd=folder, environment=environment)
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=folder, environment=environment)
    (wheel,) = (folder / "wheels").glob("learned_optim-*.whl")
    scheme = {"base": str(venv), "platbase": str(venv)}
    site, python = (pathlib.Path(sysconfig.get_path(name, "venv", scheme)) for name in ("purelib", "scripts"))
    run(*pip, "install", "--no-deps", "--no-index", "--target", site, wheel, cwd=folder, environment=environment)
    # A line of a .pth file adds a folder without reading the .pth files in it, so an editable install stays hidden.
    (site / "present.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    return python / ("python.exe" if os.name == "nt" else "python")


def main():
    """Installs, runs both commands, `adapt` a second time to go on, and uses the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0, help="for each command")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--folder", type=pathlib.Path, help="an empty folder to work in; otherwise a temporary one")
    arguments = parser.parse_args()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or pathlib.Path(temporary)).resolve()
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir(parents=True)
        page = (ROOT / "docs" / "your-own-model.md").read_text(encoding="utf-8")
        (model,) = re.findall(r"## The file\n\n```python\n(.*?)```", page, re.DOTALL)
        (elsewhere / "mine.py").write_text(model, encoding="utf-8")
        python = install(folder, environment)
        work = ("mine.py", "--minutes", arguments.minutes, "--steps", arguments.steps)
        for command in (("adapt", *work, "--no-rivals"), ("adapt", *work, "--no-rivals", "--resume"), ("tune", *work)):
            run(python, "-m", "meta_train", *command, cwd=elsewhere, environment=environment)
        run(python, "-c", USE, cwd=elsewhere, environment=environment)
    print("adapt and tune work from the wheel.")


if __name__ == "__main__":
    main()
