"""A task file of the user's."""

import sys

import jax
import pytest

from meta_train.tasks import user_file

GOOD = """
import jax.numpy as jnp
import numpy as np

data = np.ones((6, 2))
batch_size = 2

def init(key):
    return jnp.ones(2)

def loss(params, batch, key):
    return jnp.mean((batch @ params) ** 2)
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Writes a file of that source."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(source, name="mine.py"):
        path = tmp_path / name
        path.write_text(source, encoding="utf-8")
        return path

    return write


def test_the_task_is_named_after_the_file_and_made_of_what_it_defines(file):
    task = user_file.from_file(file(f"{GOOD}\ndef held_out(key):\n    return jnp.zeros((1, 2))\n"))
    assert task.name == "mine" and task.data.train.shape == (6, 2) and task.data.held_out.shape == (1, 2)
    assert float(task.loss(task.init(jax.random.key(0), ()), jax.random.key(1), task.data, ())) == 4.0


def test_the_number_of_batches_is_passed_on(file):
    batches = "def batches(key):\n    while True:\n        yield np.random.normal(size=(3, 2))\n"
    source = GOOD.replace("data = np.ones((6, 2))\nbatch_size = 2\n", batches)
    assert user_file.from_file(file(source), num_batches=7).data.train.shape == (7, 3, 2)
    assert user_file.from_file(file(source), num_batches=7, max_bytes=50).data.train.shape == (2, 3, 2)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (GOOD.replace("def loss(", "def losses("), "mine.py must define loss. Did you mean 'losses'? A task file has"),
        (GOOD.replace("def init", "def start"), "mine.py must define init. A task file has init"),
        (GOOD.replace("data =", "training ="), "mine.py must define batches(key), or data and batch_size. A task file"),
        (GOOD.replace("def init(key)", "def init()"), "mine: init must be a function init(key), but it is init()"),
        (GOOD.replace("np.ones", "np.zeros"), "mine: loss(params, batch, key) must be positive"),
    ],
    ids=["loss", "init", "data", "arguments", "value"],
)
def test_refused(source, message, file):
    with pytest.raises(ValueError) as caught:
        user_file.from_file(file(source))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("jnp.mean((batch @ params) ** 2)", "jnp.mean(batch @ jnp.ones(3))", ["line 12, in loss", "jnp.mean(batch @"]),
        ("jnp.mean((batch @ params) ** 2)", "1.0 if params[0] else 2.0", ["line 12, in loss", "TracerBoolConversion"]),
        ("np.ones((6, 2))", "np.ones((6, 2)) / {}", ["line 5, in <module>", "TypeError: unsupported operand"]),
        ("jnp.ones(2)", "jnp.one(2)", ["line 9, in init", "AttributeError: module 'jax.numpy' has no attribute 'one'"]),
    ],
    ids=["shape", "trace", "module", "name"],
)
def test_an_error_in_the_file_shows_its_lines_and_no_other(old, new, lines, file):
    path = file(GOOD.replace(old, new))
    with pytest.raises(ValueError) as caught:
        user_file.from_file(path)
    message = str(caught.value)
    assert message.startswith(f"there is an error in {path}:\n")
    assert all(line in message for line in lines)
    assert message.count('  File "') == 1 and "user_checks" not in message


def test_a_missing_file():
    with pytest.raises(ValueError, match=r"there is no file missing\.py\."):
        user_file.from_file("missing.py")


def test_it_says_how_large_model_and_data_are(file):
    lines = []
    user_file.from_file(file(GOOD), progress=lines.append)
    user_file.from_file(file(f"{GOOD}\nheld_out = lambda key: data\n"), progress=lines.append)
    start = "mine: 2 parameters, examples to train on: 6"
    assert lines == [f"{start}; without held_out(key), held-out metrics are those of training data", start]
