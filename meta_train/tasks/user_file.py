"""A user's own model as a task, from a Python file of his."""

import os
import pathlib

import jax

from learned_optim import nearest
from meta_train.host import user_code
from meta_train.host.counted import counted
from meta_train.host.progress import TellFn
from meta_train.tasks import user_model
from meta_train.tasks.base import Task
from meta_train.tasks.user_checks import RuleError

_NEEDED = ("init", "loss")
_OPTIONAL = ("batches", "data", "batch_size", "held_out", "metrics")


def is_file(name: str) -> bool:
    """Whether the name of a task means a file: whether it ends with `.py`.

    Example:
      >>> is_file("mine.py"), is_file("digits-mlp")
      (True, False)
    """
    return name.endswith(".py")


def from_file(
    path: str | os.PathLike[str],
    *,
    num_batches: int = 1000,
    max_bytes: int = user_model.MAX_BYTES,
    progress: TellFn = lambda line: None,
) -> Task:
    """Makes a task of a file, which defines what `from_functions` takes, under the same names.

    The file defines `init`, `loss`, either `batches` or `data` and `batch_size`, and if it likes `held_out` and
    `metrics`. It may import modules from its own folder.

    Args:
      path: the file. The task is named after it, without `.py`.
      num_batches: how many batches to keep at most, where the file defines `batches`.
      max_bytes: how much memory they take at most.
      progress: called with a line of text about the model and its data.

    Raises:
      ValueError: if there is no such file, it lacks something, or what it defines is refused by `from_functions`. An
        error in the file's own code is one as well, with the lines of the file that led to it.

    Example:
      >>> from_file("missing.py")
      Traceback (most recent call last):
      ValueError: there is no file missing.py.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}.")
    with user_code.told(path):
        defined = vars(user_code.load(path, "task"))
        for name in _NEEDED:
            if name not in defined:
                raise RuleError(_lacks(path, name, defined))
        if "batches" not in defined and "data" not in defined:
            raise RuleError(_lacks(path, "batches", defined, "batches(key), or data and batch_size"))
        given = {name: defined[name] for name in (*_NEEDED, *_OPTIONAL) if name in defined}
        task = user_model.from_functions(path.stem, num_batches=num_batches, max_bytes=max_bytes, **given)
    progress(_described(task, given))
    return task


def _described(task, given):
    """The size of the model and of its data."""
    params = jax.eval_shape(lambda key: task.init(key, ()), jax.random.key(0))
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    number = len(jax.tree.leaves(task.data.train)[0])
    kept = f"batches to train on: {number:,}" if "batches" in given else f"examples to train on: {number:,}"
    line = f"{task.name}: {counted(size, 'parameter')}, {kept}"
    own = "" if "held_out" in given else "; without held_out(key), held-out metrics are those of training data"
    return line + own


def _lacks(path, name, defined, what=None):
    own = [each for each, thing in defined.items() if not each.startswith("_") and callable(thing)]
    return (
        f"{path} must define {what or name}. {nearest.hint(name, own)}"
        "A task file has init(key), loss(params, batch, key), and batches(key) or data and batch_size."
    )
