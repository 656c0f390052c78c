"""What episodes draw of the data: which rows, which targets, and the scale of the loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import tasks
from meta_train.tasks import broad_examples

POOL = tasks.pool()
SIZE = 512
TRAIN, TEST = (jax.tree.map(jnp.asarray, part) for part in (POOL.train, POOL.test))


@functools.cache
def draws():
    """What 600 episodes drew, with NumPy arrays."""
    keys = jax.random.split(jax.random.key(0), 600)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda key: broad_examples.sample(key, POOL, 128)))(keys))


minibatch = jax.jit(lambda key, draw: broad_examples.minibatch(key, draw, TRAIN, SIZE))
held_out = jax.jit(lambda draw: broad_examples.held_out(draw, TEST, SIZE))


def plain(version, **changes):
    """An episode on all examples of a data set, inputs as they are, unless `changes` says otherwise."""
    classes = lambda rows: broad_examples.Classes(rows.offset[version], rows.count[version], rows.count[version])
    number = int(POOL.facts.num_classes[version])
    usual = {
        "train": classes(POOL.train),
        "test": classes(POOL.test),
        "num_classes": np.int32(number),
        "num_outputs": np.int32(number),
        "squared": np.bool_(False),
        "by_function": np.bool_(False),
        "weights": np.zeros((25, 10), np.float32),
        "label_mean": np.float32(np.arange(10) < number) / np.float32(number),
        "input_scale": np.ones(64, np.float32),
        "input_shift": np.float32(0),
        "batch": np.int32(128),
        "noise": np.float32(0),
        "seed": np.uint32(5),
    }
    return broad_examples.ExamplesDraw(**{**usual, **changes})


def rows_of(x, rows=POOL.train.x):
    """The number of the row that each input is."""
    found = (np.square(rows).sum(axis=1) - 2 * np.asarray(x) @ rows.T).argmin(axis=1)
    np.testing.assert_array_equal(rows[found], x)
    return found


def batches(draw, number=4):
    return [minibatch(key, draw) for key in jax.random.split(jax.random.key(7), number)]


def test_rows_are_of_the_drawn_classes_and_of_the_subset_alone():
    chosen = np.array([7, 2, 4, *[0] * 7])
    count = POOL.train.count[0][chosen]
    seen = jnp.full(10, 6, jnp.int32)
    draw = plain(
        0,
        train=broad_examples.Classes(POOL.train.offset[0][chosen], count, seen),
        num_classes=np.int32(3),
        num_outputs=np.int32(3),
    )
    for batch in batches(draw):
        rows = rows_of(batch.x)
        assert len(np.unique(rows)) == 3 * 6  # each of them, in 512 draws
        place = np.searchsorted(POOL.train.offset[0], rows, side="right") - 1
        np.testing.assert_array_equal(chosen[np.asarray(batch.label)], place)
    np.testing.assert_allclose(np.bincount(batch.label, minlength=3) / SIZE, 1 / 3, atol=0.08)


def test_merged_classes_share_a_label():
    batch = minibatch(jax.random.key(0), plain(0, num_outputs=np.int32(4)))
    place = np.searchsorted(POOL.train.offset[0], rows_of(batch.x), side="right") - 1
    np.testing.assert_array_equal(batch.label, place % 4)


def test_wrong_targets_are_those_of_other_examples_and_stay_through_the_episode():
    draw = plain(7, noise=np.float32(0.3))
    wrong = {}
    for batch in batches(draw, 12):
        rows = rows_of(batch.x)
        place = np.searchsorted(POOL.train.offset[7], rows, side="right") - 1
        for row, given, true in zip(rows, np.asarray(batch.label), place, strict=True):
            assert wrong.setdefault(row, (given, true)) == (given, true)
    share = np.mean([given != true for given, true in wrong.values()])
    assert share == pytest.approx(0.3 * 0.9, abs=0.03)  # a tenth of the other examples are of the same class
    given = np.bincount([given for given, true in wrong.values() if given != true], minlength=10)
    assert given.min() > 0.5 * given.mean()


def test_held_out_examples_are_other_ones_and_always_the_same_with_true_labels():
    draw = plain(0, noise=np.float32(0.4))
    batch = held_out(draw)
    rows = rows_of(batch.x, POOL.test.x)
    assert len(np.unique(rows)) == POOL.test.count[0].sum()  # all 360
    place = np.searchsorted(POOL.test.offset[0], rows, side="right") - 1
    np.testing.assert_array_equal(batch.label, place)
    other = held_out(draw._replace(seed=np.uint32(77)))
    np.testing.assert_array_equal(batch.x, other.x)


def test_inputs_are_shifted_then_scaled_and_hidden_ones_are_zero():
    scale = np.linspace(-2, 2, 64, dtype=np.float32) * (np.arange(64) % 3 > 0)
    base = minibatch(jax.random.key(0), plain(0)).x
    batch = minibatch(jax.random.key(0), plain(0, input_scale=scale, input_shift=np.float32(0.5)))
    np.testing.assert_allclose(batch.x, (np.asarray(base) + 0.5) * scale, rtol=1e-5)
    assert not np.any(np.asarray(batch.x)[:, ::3])


def test_functions_are_targets_with_a_variance_of_one():
    numbers = jax.random.uniform(jax.random.key(3), (241,))
    drawn = jax.jit(functools.partial(broad_examples._function, facts=POOL.facts))
    for version in (1, 6):
        weights = np.asarray(drawn(numbers, version=version, by_value=jnp.asarray(False)))
        draw = plain(version, by_function=np.bool_(True), squared=np.bool_(True), weights=weights)
        draw = draw._replace(num_outputs=np.int32(10))
        batch = minibatch(jax.random.key(1), draw)
        begin, count = POOL.train.offset[version, 0], POOL.train.count[version].sum()
        everywhere = POOL.train.targets[begin : begin + count if version != 6 else begin + 4096] @ weights
        np.testing.assert_allclose(everywhere.var(axis=0), 1, rtol=1e-3)
        np.testing.assert_allclose(batch.target, POOL.train.targets[rows_of(batch.x)] @ weights, atol=1e-4)
        np.testing.assert_array_equal(batch.label, np.asarray(batch.target).argmax(axis=1))
    value = np.asarray(drawn(numbers, version=3, by_value=jnp.asarray(True)))
    assert value[0, 0] == 1
    assert np.count_nonzero(value) == 1


def test_losses_are_cross_entropy_and_mean_squares_over_the_outputs_that_count():
    outputs = jax.random.normal(jax.random.key(0), (SIZE, 10))
    draw = plain(0, num_outputs=np.int32(4), label_mean=np.array([0.3, 0.3, 0.2, 0.2] + [0.0] * 6, np.float32))
    batch = minibatch(jax.random.key(1), draw)
    logits, label = np.asarray(outputs)[:, :4], np.asarray(batch.label)
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(SIZE), label]
    np.testing.assert_allclose(broad_examples.loss(outputs, batch, draw), expected, rtol=1e-4, atol=1e-5)
    found = broad_examples.loss(outputs, batch, draw._replace(squared=np.bool_(True)))
    target = (np.eye(4)[label] - [0.3, 0.3, 0.2, 0.2]) / np.sqrt([0.21, 0.21, 0.16, 0.16])
    np.testing.assert_allclose(found, np.square(logits - target).mean(axis=1), rtol=1e-4)


@pytest.mark.parametrize("squared", [False, True])
def test_the_scale_is_the_loss_of_the_best_constant_output(squared):
    p = np.array([0.3, 0.3, 0.2, 0.2] + [0.0] * 6, np.float32)
    draw = plain(0, num_outputs=np.int32(4), label_mean=p, squared=np.bool_(squared), noise=np.float32(0.2))
    constant = np.zeros(10) if squared else np.log(np.maximum(p, 1e-9))
    outputs = jnp.broadcast_to(jnp.asarray(constant, jnp.float32), (SIZE, 10))
    losses = np.concatenate([broad_examples.loss(outputs, batch, draw) for batch in batches(draw, 20)])
    assert losses.mean() / float(broad_examples.scale(draw)) == pytest.approx(1, abs=0.02)


def test_episodes_vary():
    found = draws()
    assert set(found.num_classes) == set(range(1, 11))
    assert set(found.num_outputs) == set(range(1, 11))
    for share, (low, high) in (
        (found.squared.mean(), (0.2, 0.4)),
        (found.by_function.mean(), (0.45, 0.65)),
        ((found.noise == 0).mean(), (0.5, 0.7)),
        ((found.input_shift == 0).mean(), (0.4, 0.6)),
        (((found.input_scale == 0).sum(axis=1) > 0).mean(), (0.3, 0.5)),
        ((found.train.seen == found.train.count).all(axis=1).mean(), (0.15, 0.4)),
    ):
        assert low < share < high
    assert found.batch.min() == 4
    assert 124 <= found.batch.max() <= 128
    assert 0.35 < found.noise.max() <= 0.4
    assert np.median(found.batch) == pytest.approx(22.6, rel=0.25)
    assert found.train.seen.min() >= 1
    shown = found.input_scale != 0
    sizes = np.sqrt(np.square(found.input_scale).sum(axis=1) / shown.sum(axis=1))
    assert 0.3 - 1e-4 <= sizes.min() < 0.4
    assert 2.5 < sizes.max() <= 3 + 1e-4
    ratio = np.abs(found.input_scale).max(axis=1) / np.where(shown, np.abs(found.input_scale), np.inf).min(axis=1)
    assert (ratio < 1.001).mean() == pytest.approx(0.6, abs=0.1)
    assert 100 < ratio.max() <= 900 * 1.01
    np.testing.assert_allclose(found.label_mean.sum(axis=1), 1, rtol=1e-5)
