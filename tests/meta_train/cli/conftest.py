"""What the tests of all commands share: the command line in this process, which keeps no compiled programs."""

import sys

import jax
import pytest

import learned_optim
from meta_train import __main__ as command_line
from meta_train.training import engine


@pytest.fixture
def run(monkeypatch):
    """A function of arguments that returns the exit status."""
    monkeypatch.setattr(engine, "cache_compilations", lambda: None)
    monkeypatch.setattr(command_line, "_end_at_once", sys.exit)  # this process goes on

    def run(*arguments):
        with pytest.raises(SystemExit) as error:
            command_line.main(list(map(str, arguments)))
        return error.value.code

    return run


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """A folder of its own for what evaluations keep."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def sgd(tmp_path):
    """The file of an optimizer that compiles quickly."""
    path = tmp_path / "sgd.safetensors"
    optimizer = learned_optim.learned_sgd(0.1)
    learned_optim.save(path, optimizer, optimizer.init(jax.random.key(0)))
    return path


MODEL = """
import jax.numpy as jnp
import numpy as np

data = np.ones((6, 2))
batch_size = 2
traces = []

def init(key):
    return jnp.ones(2)

def loss(params, batch, key):
    traces.append(0)
    return jnp.mean((batch @ params) ** 2)
"""


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Writes a file with a model of a user's, changed by replacing one text by another. Returns its path."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(old="", new="", name="mine.py"):
        path = tmp_path / name
        assert old in MODEL
        path.write_text(MODEL.replace(old, new) if old else MODEL, encoding="utf-8")
        return path

    return write
