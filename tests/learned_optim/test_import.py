"""`import learned_optim` is light: it loads its five dependencies, what these load by themselves, and nothing else."""

import json
import subprocess
import sys

import pytest

DEPENDENCIES = ("jax", "jaxlib", "optax", "haiku", "numpy", "safetensors.numpy")
FORBIDDEN = {"flax", "matplotlib", "meta_train", "msgpack", "orbax", "sklearn", "tqdm", "typer"}
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


def test_building_optimizers_tasks_and_estimators_starts_no_backend(tmp_path):
    """A module may build them when it is imported, before `jax.distributed.initialize` or a choice of devices."""
    code = """
import jax, optax
import learned_optim, meta_train
from learned_optim import learned_optimizer, optimizers
from meta_train import estimators, objectives, problems, search, tasks, truncation
for name in learned_optim.list_pretrained():
    optax.chain(optax.clip_by_global_norm(1.0), learned_optimizer(name, weight_decay=0.1, step_scale=0.5))
made = {kind: constructor() for kind, constructor in optimizers.KINDS.items()}
names = [name for suite in ("meta-train", "validation", "test") for name in tasks.suite(suite, embedded=True)]
for name in names:
    problem = problems.optimizer_weights(made["mlp"], tasks.get(name))
    estimators.pes(problem, num_particles=2, unroll_length=2, horizon=truncation.log_uniform(2, 4))
    search.episodes(problem, num_particles=2, horizon=truncation.constant(2))
jax.config.update("jax_num_cpu_devices", 3)
assert jax.device_count() == 3
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
