"""Without the extra `meta`: what the command line and the package say."""

import configparser
import pathlib
import re
import subprocess
import sys

import pytest

from meta_train.host import extra

ROOT = pathlib.Path(__file__).parents[3]

# Run in a process of its own, where a package is missing.
_WITHOUT = """
import runpy, sys
sys.modules["{module}"] = None
sys.modules["typer"] = None
import meta_train
for use in ("meta_train.fit", "exec('from meta_train import fit')"):
    try:
        eval(use)
    except ModuleNotFoundError as error:
        assert "pip install '.[meta]'" in str(error), error
    else:
        raise AssertionError(use)
sys.argv = ["meta-train", "--help"]
runpy.run_module("meta_train", run_name="__main__", alter_sys=True)
"""


def test_the_packages_are_those_of_the_extra():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    named = re.findall(r"^([\w-]+)", config["options.extras_require"]["meta"], re.MULTILINE)
    assert sorted(extra.PACKAGES.values()) == sorted(named)
    assert extra.missing() == []


def test_the_command_line_says_what_to_install():
    code = _WITHOUT.format(module="orbax")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False, cwd=ROOT)
    assert result.stderr == f"meta-train: {extra.advice(['orbax-checkpoint', 'typer'])}\n"
    assert (result.returncode, result.stdout) == (2, "")


@pytest.mark.parametrize("package", ["matplotlib", "PIL", "sklearn", "tqdm", "orbax"])
def test_what_is_imported_late_is_missed_early(package, monkeypatch):
    for module in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    (missing,) = extra.missing()
    assert extra.PACKAGES[next(module for module in extra.PACKAGES if module.startswith(package))] == missing
    assert f"pip install {missing}" in extra.advice([missing])


def test_a_stand_in_is_for_the_extra_alone():
    with pytest.raises(ModuleNotFoundError, match="haiku"):
        extra.stand_in(ModuleNotFoundError("No module named 'haiku'", name="haiku"))
    stand_in = extra.stand_in(ModuleNotFoundError("No module named 'tqdm.auto'", name="tqdm.auto"))
    with pytest.raises(AttributeError):
        stand_in("__path__")
    with pytest.raises(ModuleNotFoundError, match="pip install"):
        stand_in("fit")
