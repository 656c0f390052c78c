"""What episodes draw: the ranges, and that each draw does what its name says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import data
from meta_train import tasks
from meta_train.tasks import variation as varied
from meta_train.tasks.variation import FIXED
from meta_train.tasks.variation import Variation

DRAWS = 4_000


def draws(variation, count=DRAWS):
    return jax.vmap(lambda key: varied.draw(variation, key, 100))(jax.random.split(jax.random.key(0), count))


@pytest.mark.parametrize("name", ["init_scale", "loss_scale", "subset", "batch"])
def test_factors_and_shares_are_log_uniform(name):
    drawn = draws(FIXED._replace(**{name: (1e-3, 0.1)}))
    assert [field for field, value in drawn._asdict().items() if value is not None and field != "start"] == [name]
    factors = np.asarray(getattr(drawn, name))
    assert 1e-3 <= factors.min() < 1.1e-3
    assert 0.09 < factors.max() <= 0.1
    exponents = np.log10(factors)  # uniform on -3 … -1
    assert abs(exponents.mean() - -2) < 4 * np.sqrt(4 / 12 / DRAWS)
    np.testing.assert_allclose(exponents.std(), np.sqrt(4 / 12), rtol=0.05)


def test_label_noise_is_uniform_and_independent_of_the_rest():
    drawn = draws(Variation(label_noise=(0.0, 0.5), init_scale=(0.1, 1.0)))
    noise = np.asarray(drawn.label_noise)
    assert abs(noise.mean() - 0.25) < 4 * np.sqrt(0.25 / 12 / DRAWS)
    assert abs(np.corrcoef(noise, np.log(drawn.init_scale))[0, 1]) < 4 / np.sqrt(DRAWS)


def test_nothing_varies_by_default():
    assert varied.draw(FIXED, jax.random.key(0)) == ()
    task = tasks.quadratic(size=2)
    assert varied.vary_scales(task, FIXED) is task


def test_scales_of_parameters_and_loss():
    plain = tasks.quadratic(size=3)
    task = tasks.quadratic(size=3, variation=Variation(init_scale=(0.5, 0.5), loss_scale=(100.0, 100.0)))
    drawn, inner = config = task.sample(jax.random.key(0))
    np.testing.assert_allclose([drawn.init_scale, drawn.loss_scale], [0.5, 100], rtol=1e-6)
    params = task.init(jax.random.key(1), config)
    np.testing.assert_allclose(params["x"], 0.5 * plain.init(jax.random.key(1), inner)["x"], rtol=1e-6)
    loss, grads = jax.value_and_grad(task.loss)(params, None, (), config)
    plain_loss, plain_grads = jax.value_and_grad(plain.loss)(params, None, (), inner)
    np.testing.assert_allclose(loss, 100 * plain_loss, rtol=1e-6)
    np.testing.assert_allclose(grads["x"], 100 * plain_grads["x"], rtol=1e-6)
    np.testing.assert_allclose(task.loss_scale(config), 100, rtol=1e-6)
    np.testing.assert_array_equal(task.evaluate(params, None, (), config)["loss"], plain_loss)


def _regression(variation):
    """Inputs 0 … 999; the network gives them back, targets are zero: the loss is the mean square of the rows drawn."""
    x = np.arange(1000, dtype=np.float32)[:, None]
    dataset = data.Dataset(x, np.zeros(1000, np.float32), x[:1], np.zeros(1, np.float32))
    return tasks.regression("rows", dataset, lambda x: x, batch_size=64, variation=variation)


def _losses(task, config, count=200):
    keys = jax.random.split(jax.random.key(5), count)
    loss = lambda key, data: task.loss({}, key, data, config)
    return np.asarray(jax.jit(jax.vmap(loss, (0, None)))(keys, task.data))


def test_a_subset_is_a_fixed_part_of_the_examples():
    """With four examples seen, all losses are means of 64 draws from four squares."""
    task = _regression(Variation(subset=(0.004, 0.004)))
    configs = [task.sample(jax.random.key(seed)) for seed in (0, 1)]
    means = []
    for config in configs:
        squares = np.square((float(config.start) + 7919 * np.arange(4)) % 1000)
        losses = _losses(task, config)
        assert squares.min() < losses.min() < losses.max() < squares.max()
        assert abs(losses.mean() - squares.mean()) < 4 * squares.std() / np.sqrt(64 * 200)
        means.append(squares.mean())
    assert means[0] != means[1]


def test_a_subset_of_a_large_set_is_its_fixed_part_too():
    """Rows times 7919 pass 2^31 here."""
    x = np.arange(1_000_000, dtype=np.float32)[:, None]
    dataset = data.Dataset(x, np.zeros(len(x), np.float32), x[:1], np.zeros(1, np.float32))
    half = Variation(subset=(0.5, 0.5))
    task = tasks.regression("rows", dataset, lambda x: x, batch_size=1, variation=half)
    config = task.sample(jax.random.key(0))
    rows = np.rint(np.sqrt(_losses(task, config, 1_000))).astype(np.int64)
    assert np.isin(rows, (int(config.start) + 7919 * np.arange(500_000)) % 1_000_000).all()
    assert len(np.unique(rows)) > 990


def test_a_share_of_the_batch_counts():
    """The spread of the losses tells how many examples are in the mean."""
    whole, part = (_regression(Variation(batch=(share, share))) for share in (1.0, 0.25))
    spreads = [_losses(task, task.sample(jax.random.key(0)), 2_000).std() for task in (whole, part)]
    np.testing.assert_allclose(spreads[1] / spreads[0], 2.0, rtol=0.1)  # 16 of 64


def test_label_noise_replaces_a_share_of_the_classes_for_good():
    """Logits that are sure of class 0: an example costs 20 nats if its label was replaced by another, or else none."""
    x, y = np.zeros((500, 1), np.float32), np.zeros(500, np.int32)
    dataset = data.Dataset(x, y, x[:4], np.arange(4, dtype=np.int32))
    logits = lambda x: jnp.broadcast_to(jnp.array([20.0, 0.0, 0.0, 0.0]), (len(x), 4))
    noise = Variation(label_noise=(0.4, 0.4))
    task = tasks.classification("labels", dataset, logits, batch_size=1, variation=noise)
    config = task.sample(jax.random.key(0))

    def wrong(key, data):
        row = jax.random.randint(key, (1,), 0, 500)[0]
        return row, task.loss({}, key, data, config) > 10.0

    keys = jax.random.split(jax.random.key(1), 4_000)
    rows, replaced = map(np.asarray, jax.jit(jax.vmap(wrong, (0, None)))(keys, task.data))
    by_row = [set(replaced[rows == row]) for row in range(500) if np.any(rows == row)]
    assert all(len(found) == 1 for found in by_row)  # a row is replaced always or never
    share = np.mean([found == {True} for found in by_row])
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 500)  # of 40 %, a quarter falls on class 0 again


@pytest.mark.parametrize(
    ("variation", "match"),
    [
        (Variation(init_scale=(0.0, 1.0)), "init_scale must be a pair 1e-30 <= low <= high"),
        (Variation(loss_scale=(2.0, 1.0)), "loss_scale must be a pair"),
        (Variation(label_noise=(0.0, 1.5)), r"label_noise must be a pair 0 <= low <= high <= 1, got \(0.0, 1.5\)"),
        (Variation(subset=(0.5, 2.0)), "subset must be a pair"),
        (Variation(batch=(0.0, 1.0)), "batch must be a pair"),
    ],
)
def test_impossible_ranges(variation, match):
    with pytest.raises(ValueError, match=match):
        tasks.softmax_regression("wrong", data.load("iris"), variation=variation)


def test_ranges_without_meaning():
    with pytest.raises(ValueError, match="nothing that subset could vary"):
        tasks.quadratic(variation=Variation(subset=(0.1, 1.0)))
    with pytest.raises(ValueError, match="nothing that label_noise could vary"):
        tasks.autoencoder("wrong", data.load("digits"), variation=Variation(label_noise=(0.0, 0.1)))
