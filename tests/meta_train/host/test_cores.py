"""Cores as devices: all of them, unless the user has chosen a number."""

import os
import subprocess
import sys

import jax
import pytest

import meta_train
from meta_train.host import cores

_FLAG = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
_VARIABLE = {"JAX_NUM_CPU_DEVICES": "3"}


def _environment(choice):
    rest = {key: value for key, value in os.environ.items() if key not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    return rest | choice


@pytest.mark.parametrize(("choice", "devices"), [({}, str(cores.count())), (_FLAG, "4"), (_FLAG | _VARIABLE, "3")])
def test_each_core_is_a_device_unless_the_user_chose_a_number(choice, devices):
    code = "import meta_train, jax\nmeta_train.use_all_cores()\nprint(jax.local_device_count('cpu'))\n"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment(choice))
    assert (done.returncode, done.stdout.strip()) == (0, devices), done.stderr


def test_a_setting_made_in_the_program_is_left_alone():
    meta_train.use_all_cores()
    assert jax.device_count() == 2


def test_processes_share_the_cores_unless_the_user_chose_a_number(monkeypatch):
    monkeypatch.setattr(cores, "count", lambda: 6)
    for choice in ({}, _FLAG, _VARIABLE, _FLAG | _VARIABLE):
        for name in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES"):
            monkeypatch.delenv(name, raising=False)
        for name, value in choice.items():
            monkeypatch.setenv(name, value)
        expected = choice or {"JAX_NUM_CPU_DEVICES": "3"}
        assert cores.shared_environment(2) == _environment(expected)
    monkeypatch.delenv("XLA_FLAGS")
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES")
    assert cores.shared_environment(9)["JAX_NUM_CPU_DEVICES"] == "1"
