"""Tasks to train inside, by name.

Released recipes are trained on `META_TRAIN`, chosen by `VALIDATION` and reported on `TEST`. No task is in two of them.
"""

import difflib

import jax

from meta_train import data
from meta_train.tasks.base import Task
from meta_train.tasks.mlp import mlp
from meta_train.tasks.quadratic import quadratic
from meta_train.tasks.softmax_regression import softmax_regression

# Fixed instances: name -> function that builds the task.
TASKS = {
    "digits-mlp": lambda: mlp("digits-mlp", data.load("digits")),
    "digits-softmax": lambda: softmax_regression("digits-softmax", data.load("digits")),
    "quadratic": quadratic,
    "digits-wide": lambda: mlp("digits-wide", data.load("digits"), hidden_sizes=(128,)),
    "iris-mlp": lambda: mlp("iris-mlp", data.load("iris"), hidden_sizes=(16,), batch_size=32),
    "digits-deep-tanh": lambda: mlp(
        "digits-deep-tanh", data.load("digits"), hidden_sizes=(48, 48, 48), activation=jax.nn.tanh
    ),
    "breast-cancer-mlp": lambda: mlp(
        "breast-cancer-mlp", data.load("breast_cancer"), hidden_sizes=(64, 64), batch_size=64
    ),
    "wine-softmax": lambda: softmax_regression("wine-softmax", data.load("wine"), batch_size=32),
}
META_TRAIN = ("digits-mlp", "digits-softmax", "quadratic")
VALIDATION = ("digits-wide", "iris-mlp")
TEST = ("digits-deep-tanh", "breast-cancer-mlp", "wine-softmax")


def get(name: str) -> Task:
    """Builds the task of that name.

    Raises:
      ValueError: if there is none.

    Example:
      >>> get("digits-mlp").data.train_x.shape
      (1437, 64)
    """
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"there is no task {name!r}. {hint}Choose from {', '.join(TASKS)}.")
    return TASKS[name]()


def suite(name: str) -> tuple[str, ...]:
    """Names of the tasks of the suite "meta-train", "validation" or "test".

    Raises:
      ValueError: for another name.
    """
    suites = {"meta-train": META_TRAIN, "validation": VALIDATION, "test": TEST}
    if name not in suites:
        raise ValueError(f"there is no suite {name!r}. Choose from {', '.join(suites)}.")
    return suites[name]


__all__ = [
    "META_TRAIN",
    "TASKS",
    "TEST",
    "VALIDATION",
    "Task",
    "get",
    "mlp",
    "quadratic",
    "softmax_regression",
    "suite",
]
