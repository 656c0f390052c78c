"""Halves of held-out data: nothing in common, all of it used, and what to train on stays."""

from typing import Any
from typing import NamedTuple

import haiku as hk
import jax
import numpy as np

from meta_train.data import Dataset
from meta_train.data import Text
from meta_train.evaluation import halves
from meta_train.tasks.language_model import language_model
from meta_train.tasks.variation import FIXED


class Batches(NamedTuple):
    train: Any
    held_out: Any


def test_examples_and_their_labels_go_together():
    x, y = np.arange(7)[:, None] * np.ones((7, 2)), np.arange(7)
    found = halves.split({"inner": Dataset(x, y, x, y), "other": y})
    for half, rows in zip(found, ([0, 2, 4], [1, 3, 5]), strict=True):
        np.testing.assert_array_equal(half["inner"].test_y, rows)
        np.testing.assert_array_equal(half["inner"].test_x, x[rows])
        assert half["inner"].train_x is x
        assert half["inner"].train_y is y
        assert half["other"] is y


def test_a_batch_is_split_along_its_first_axis_or_not_at_all():
    batch = {"x": np.arange(4), "y": np.arange(8).reshape(4, 2)}
    found = halves.split(Batches(batch, batch))
    np.testing.assert_array_equal(found.choose.held_out["y"], [[0, 1], [4, 5]])
    np.testing.assert_array_equal(found.report.held_out["x"], [1, 3])
    assert found.report.train is batch
    for odd in ({"x": np.arange(4), "y": np.arange(3)}, {"x": np.arange(4), "y": np.float32(1)}, np.arange(1)):
        for half in halves.split(Batches(batch, odd)):
            jax.tree.map(np.testing.assert_array_equal, half.held_out, odd)


def test_a_text_is_split_in_the_middle_and_evaluated_within_its_half():
    """Held-out losses are those of the windows that lie in a half."""
    text = Text(np.arange(50, dtype=np.int32) % 7, np.arange(200, dtype=np.int32) % 7, tuple("abcdefg"))
    network = lambda tokens, size: hk.Embed(size, size)(tokens)
    build = lambda text: language_model("tiny", text, network, length=9, batch_size=2, variation=FIXED)
    task = build(text)
    found = halves.split(task.data)
    np.testing.assert_array_equal(np.concatenate([half.test for half in found]), text.test)
    params = task.init(jax.random.key(0), ())
    evaluate = lambda data: float(task.evaluate(params, jax.random.key(0), data, ())["loss"])
    half = found.report
    short = build(text._replace(test=half.test))
    assert evaluate(half) == float(short.evaluate(params, jax.random.key(0), short.data, ())["loss"])
    assert evaluate(half) != evaluate(found.choose)


def test_tasks_that_draw_their_data_have_nothing_to_split():
    assert halves.split(()) == ((), ())
