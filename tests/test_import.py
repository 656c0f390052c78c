"""`import learned_optim` is light: it loads its five dependencies, what these load by themselves, and nothing else."""

import json
import subprocess
import sys

import pytest

DEPENDENCIES = ("jax", "jaxlib", "optax", "haiku", "numpy", "safetensors.numpy")
FORBIDDEN = {"flax", "matplotlib", "meta_train", "orbax", "sklearn", "tqdm", "typer"}
FORBIDDEN |= {"tensorflow", "tensorflow_datasets"}


def _packages_after(statement, folder):
    """Top-level packages outside of the standard library that a fresh process holds after an import."""
    # Haiku loads Flax by itself where it is installed, as it is for the tests, and Flax loads half of the world.
    code = (
        f"import sys\nsys.modules['flax'] = None\n{statement}\nimport json\ndel sys.modules['flax']\n"
        "print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    return set(json.loads(result.stdout)) - set(sys.stdlib_module_names) - {"__main__"}


@pytest.mark.parametrize("module", ["learned_optim", "learned_optim.__main__"])
def test_import_loads_the_dependencies_only(module, tmp_path):
    allowed = _packages_after(f"import {', '.join(DEPENDENCIES)}", tmp_path)
    loaded = _packages_after(f"import {module}", tmp_path)
    assert {"learned_optim", "jax", "optax", "haiku", "numpy", "safetensors"} <= loaded
    assert loaded & FORBIDDEN == set()
    assert loaded - allowed == {"learned_optim"}


def test_meta_train_loads_the_extra_apps_only_where_they_are_used(tmp_path):
    loaded = _packages_after("import meta_train", tmp_path)
    assert "meta_train" in loaded
    assert loaded & {"cma", "diffrax", "lineax"} == set()
