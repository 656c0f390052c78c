"""Two halves of a task's held-out data: one to choose baselines by, the other to report on."""

from typing import Any
from typing import NamedTuple

import jax

# Names of the fields that hold held-out examples, in `Dataset` and in a user's data, and that of a held-out text.
_EXAMPLES, _TEXT = ("test_x", "test_y", "held_out"), "test"


class Halves(NamedTuple):
    """A task's data twice, with the same examples to train on."""

    choose: Any  # with one half of the held-out data
    report: Any  # with the other


def split(data: Any) -> Halves:
    """Splits the held-out data, every other example to each half, a text in the middle.

    Both halves have the same number of examples, so that one compiled program serves both: an odd one is left out.

    Args:
      data: of a task. Held-out examples are in fields `test_x` and `test_y`, or `held_out`, of a NamedTuple, a held-out
        text in a field `test`. A task without such fields draws its held-out data, from other keys for each seed; then
        both are the data as they are, and so they are if there is a single example.

    Example:
      >>> import numpy as np
      >>> from meta_train.data import Dataset
      >>> found = split(Dataset(np.zeros(2), np.zeros(2), np.arange(5), np.arange(5)))
      >>> found.choose.test_x, found.report.test_x
      (array([0, 2]), array([1, 3]))
    """
    return Halves(*(jax.tree.map(lambda node, half=half: _half(node, half), data, is_leaf=_holds) for half in (0, 1)))


def _holds(node):
    return bool({*_EXAMPLES, _TEXT} & {*getattr(node, "_fields", ())})


def _half(node, half):
    if not _holds(node):
        return node
    return node._replace(
        **{name: _of_field(name, getattr(node, name), half) for name in (*_EXAMPLES, _TEXT) if name in node._fields}
    )


def _of_field(name, values, half):
    lengths = {leaf.shape[:1] for leaf in jax.tree.leaves(values)}
    if len(lengths) != 1 or min(lengths) < (2,):  # not examples along a first axis
        return values
    size = min(lengths)[0] // 2
    rows = slice(half * size, (half + 1) * size) if name == _TEXT else slice(half, 2 * size, 2)
    return jax.tree.map(lambda leaf: leaf[rows], values)
