"""The walk of subsets: every example once, whatever their number below 2^31, and the same as ever for small sets."""

import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.tasks import subset_walk


def walk(steps, start, num_examples):
    found = subset_walk.examples(jnp.asarray(steps, jnp.int32), jnp.int32(start), num_examples)
    assert found.dtype == jnp.int32
    return np.asarray(found)


@pytest.mark.parametrize("num_examples", [1, 2, 1000, 7919, 7907 * 2, 271_147])
def test_small_sets_walk_as_they_always_did(num_examples):
    steps = np.arange(num_examples)
    stride = 7907 if num_examples == 7919 else 7919
    expected = (num_examples - 1 + stride * steps) % num_examples
    assert (num_examples - 1 + stride * steps).max() < 2**31
    np.testing.assert_array_equal(walk(steps, num_examples - 1, num_examples), expected)


def test_a_large_subset_of_a_million_has_no_example_twice():
    assert len(np.unique(walk(np.arange(950_000), 999_999, 1_000_000))) == 950_000


@pytest.mark.parametrize(
    "num_examples", [271_148, 271_149, 1_000_000, 7919**2, 7919 * 7907, 7919 * 7907 * 34, 2**30 + 1, 2**31 - 1]
)
def test_products_do_not_overflow(num_examples):
    stride = next(stride for stride in (7919, 7907, 7901) if num_examples % stride)
    random = np.random.default_rng(0)
    steps = np.concatenate([random.integers(0, num_examples, 2000), [0, 1, num_examples - 1]])
    for start in (0, 1, int(random.integers(num_examples)), num_examples - 1):
        np.testing.assert_array_equal(walk(steps, start, num_examples), (start + stride * steps) % num_examples)


@pytest.mark.parametrize(
    ("share", "num_examples", "expected"),
    [
        (0.004, 1000, 4),
        (0.5, 5, 3),
        (1.0, 271_147, 271_147),
        (1.0, 2**24 + 3, 2**24 + 3),  # rounds to 2^24 + 4
        (1.0, 2**31 - 1, 2**31 - 1),  # rounds to 2^31
        (0.5, 2**31 - 1, 2**30),
    ],
)
def test_no_more_are_seen_than_there_are(share, num_examples, expected):
    seen = subset_walk.num_seen(jnp.float32(share), num_examples)
    assert seen.dtype == jnp.int32
    assert int(seen) == expected
