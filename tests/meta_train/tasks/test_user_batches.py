"""Batches of the user's: which are kept, in what order passes begin, and what is refused."""

import jax
import ml_dtypes
import numpy as np
import pytest

from meta_train.tasks import user_batches
from meta_train.tasks.user_checks import RuleError

KEY = jax.random.key(3)
PLENTY = 10**9


def _collected(batches, num_batches=6, max_bytes=PLENTY):
    return user_batches.collect(batches, KEY, num_batches=num_batches, max_bytes=max_bytes)


def _shuffled(key):
    """Three batches of two of the numbers below six."""
    yield from np.asarray(jax.random.permutation(key, 6)).reshape(3, 2)


def test_an_iterator_without_an_end_is_read_as_far_as_needed():
    drawn = []

    def batches(key):
        while True:
            drawn.append(len(drawn))
            yield {"x": np.full(2, drawn[-1], np.float64)}

    source = _collected(batches, num_batches=5)
    np.testing.assert_array_equal(source.arrays["x"], np.repeat(np.arange(5.0), 2).reshape(5, 2))
    assert len(drawn) == 5 and source.arrays["x"].dtype == np.float32


def test_a_pass_that_ends_is_followed_by_passes_with_other_keys():
    kept = _collected(_shuffled, num_batches=7).arrays
    assert kept.shape == (7, 2)
    for first in (0, 3):
        assert sorted(kept[first : first + 3].ravel()) == [0, 1, 2, 3, 4, 5]
    assert not np.array_equal(kept[:3], kept[3:6])


def test_a_pass_that_begins_like_the_first_adds_nothing():
    assert _collected(lambda key: np.arange(8.0).reshape(4, 2), num_batches=100).arrays.shape == (4, 2)
    assert _collected(lambda key: [np.array([np.nan, 1.0])], num_batches=100).arrays.shape == (1, 2)


def test_memory_is_limited_but_one_batch_is_kept():
    batches = lambda key: [np.zeros(25, np.float32)] * 50  # of 100 bytes
    assert len(_collected(batches, num_batches=50, max_bytes=320).arrays) == 3
    assert len(_collected(batches, num_batches=50, max_bytes=99).arrays) == 1


def test_each_step_draws_one_batch_and_all_batches_come():
    source = _collected(lambda key: [{"x": np.full(3, i)} for i in range(4)])
    drawn = jax.jit(jax.vmap(source.take, (0, None)))(jax.random.split(KEY, 50), source.arrays)["x"]
    assert drawn.shape == (50, 3) and set(np.ravel(drawn)) == {0, 1, 2, 3}
    assert np.all(drawn == drawn[:, :1])


def test_examples_are_drawn_together():
    source = user_batches.examples({"x": np.arange(5.0), "y": -np.arange(5.0)}, 40)
    batch = source.take(KEY, source.arrays)
    np.testing.assert_array_equal(batch["x"], -batch["y"])
    assert set(np.asarray(batch["x"])) == {0, 1, 2, 3, 4} and len(batch["x"]) == 40


def test_the_first_batch_that_is_not_finite_is_found():
    batches = [{"n": np.arange(2), "x": np.array([1.0, bad])} for bad in (1.0, 2.0, np.inf, np.nan)]
    what, batch = _collected(lambda key: batches, num_batches=4).suspect
    assert what == "batch 3 of batches(key)" and np.isinf(batch["x"][1])
    assert _collected(lambda key: batches[:2], num_batches=2).suspect is None
    x, label = np.ones((6, 2)), np.array([np.nan] * 6)
    x[4, 1] = np.nan
    what, batch = user_batches.examples(x, 3).suspect
    assert what == "example 4 of data"
    np.testing.assert_array_equal(batch, np.array([[1.0, np.nan]] * 3))
    assert user_batches.examples((x, label), 3).suspect[0] == "example 0 of data"


def test_dtypes_are_those_of_jax():
    given = (1.5, [1, 2], np.zeros(2, np.uint8), np.zeros(2, bool), np.zeros(2, ml_dtypes.bfloat16))
    dtypes = [leaf.dtype.name for leaf in jax.tree.leaves(user_batches.as_arrays(given, "it"))]
    assert dtypes == ["float32", "int32", "int32", "uint8", "bool", "bfloat16"]


ONCE = iter([np.zeros(2)] * 2)

REFUSED = {
    "none": (lambda key: [], "must give at least one batch, and ended at once. Is a file or folder empty?"),
    "a single use": (lambda key: ONCE, r"must begin a new pass over the data at every call, and ended at once when it"),
    "no iterator": (lambda key: 3, "must return an iterator of batches, got int. Use `yield`, or return a list."),
    "None": (lambda key: [None], "batch 1 of batches.key. must be a pytree of arrays, got None, which has none"),
    "text": (lambda key: [{"x": "a"}], r"must be a pytree of arrays of numbers, got the dtype <U1\['x'\]"),
    "a short last one": (
        lambda key: [np.zeros((4, 2)), np.zeros((3, 2))],
        r"batch 2 has float32\[3, 2\] and the first one float32\[4, 2\]. If it is the last of a pass, with fewer ex",
    ),
    "another dtype": (lambda key: [np.zeros(2), np.zeros(2, int)], r"batch 2 has int32\[2\] and the first"),
    "another structure": (lambda key: [{"x": 0.0}, {"y": 0.0}], "must have the same structure, but batch 2 is"),
}


@pytest.mark.parametrize(("batches", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(batches, message):
    with pytest.raises(RuleError, match=message):
        _collected(batches)


@pytest.mark.parametrize(
    ("data", "batch_size", "message"),
    [
        ({"x": np.zeros((3, 2)), "y": np.zeros(4)}, 2, r"but data\['x'\] has 3, data\['y'\] has 4"),
        (np.zeros(()), 2, "but data has no axis"),
        (np.zeros((0, 3)), 2, "at least one, but data has 0"),
        (np.zeros(3), None, "with data, batch_size must be a positive integer, the number of ex.*, got None"),
        (np.zeros(3), 0, "got 0"),
        (np.zeros(3), True, "got True"),
        (np.zeros(3), 2.5, "got 2.5"),
        (lambda: 0, 2, "must be a pytree of arrays of numbers, got the dtype object"),
    ],
)
def test_refused_examples(data, batch_size, message):
    with pytest.raises(RuleError, match=message):
        user_batches.examples(data, batch_size)


def test_no_first_batch():
    with pytest.raises(RuleError, match="ended at once when it was called again"):
        user_batches.first(lambda key: [], KEY)
    with pytest.raises(RuleError, match="num_batches must be at least 1, got 0"):
        _collected(_shuffled, num_batches=0)
