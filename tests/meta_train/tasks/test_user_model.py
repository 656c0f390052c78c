"""A user's model as a task: its losses are those of his functions, on his data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.evaluation import protocol
from meta_train.tasks import user_model

X = np.arange(12, dtype=np.float32).reshape(6, 2) + 1.0
KEYS = jax.random.split(jax.random.key(0), 3)


def _init(key):
    return jax.random.normal(key, (2,))


def _loss(w, batch, key):
    """It tells batch and noise apart."""
    return 1e-3 * jnp.mean((batch @ w) ** 2) + 100.0 + jax.random.uniform(key)


def _made(**changes):
    return user_model.from_functions("mine", **{"init": _init, "loss": _loss, "data": X, "batch_size": 3} | changes)


def test_a_step_trains_on_examples_of_the_data_with_noise_of_its_own():
    task = _made(loss=lambda w, batch, key: jnp.sum(batch[:, 0]) + 1e-3 * jax.random.uniform(key))
    assert task.name == "mine" and task.sample(KEYS[0]) == ()
    w = task.init(KEYS[0], ())
    losses = np.array([task.loss(w, key, task.data, ()) for key in jax.random.split(KEYS[1], 8)])
    sums, noises = np.round(losses), losses - np.round(losses)
    assert set(sums) <= {float(sum(X[list(rows), 0])) for rows in np.ndindex(6, 6, 6)} and len(set(sums)) > 2
    assert np.all((noises > 0) & (noises < 1e-3)) and len(set(noises)) == 8
    assert task.loss(w, KEYS[2], task.data, ()) == task.loss(w, KEYS[2], task.data, ())


def test_the_data_are_arguments():
    task = _made(loss=lambda w, batch, key: jnp.mean(batch))
    other = jax.tree.map(lambda x: 7.0 + 0.0 * x, task.data)
    assert task.loss(task.init(KEYS[0], ()), KEYS[1], other, ()) == 7.0
    assert task.evaluate(task.init(KEYS[0], ()), KEYS[1], other, ())["loss"] == 7.0


def test_held_out_metrics_are_those_of_the_held_out_batch():
    metrics = lambda w, batch: {"largest": jnp.max(batch), "count": 2}
    loss = lambda w, batch, key: jnp.mean(batch)
    task = _made(loss=loss, held_out=lambda key: 2.0 * X[:1], metrics=metrics)
    found = task.evaluate(task.init(KEYS[0], ()), KEYS[1], task.data, ())
    assert {name: float(value) for name, value in found.items()} == {"loss": 3.0, "largest": 4.0, "count": 2.0}
    assert {value.dtype for value in found.values()} == {jnp.dtype(jnp.float32)}
    own = _made(loss=loss, metrics=lambda w, batch: {"loss": jnp.float32(5.0)})
    assert own.evaluate(own.init(KEYS[0], ()), KEYS[1], own.data, ())["loss"] == 5.0


def test_without_held_out_data_training_data_are_evaluated():
    np.testing.assert_array_equal(_made().data.held_out, X)
    many = np.ones((2500, 2), np.float32)
    assert len(_made(data=many).data.held_out) == 2000
    fresh = iter(range(100))
    batches = lambda key: (X[:1] + next(fresh) for _ in range(4))
    data = _made(batches=batches, data=None, batch_size=None, num_batches=4).data
    assert data.train.shape == (4, 1, 2)
    np.testing.assert_array_equal(data.held_out, X[:1] + 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"loss": lambda w, batch, key: batch @ w}, "one floating-point number"), ({"init": lambda key: {}}, "no array")],
)
def test_wrong_types_are_told_after_a_single_batch(change, message):
    """Reading all of them may take minutes."""
    read = []
    batches = lambda key: (read.append(i) or X[:2] for i in range(100))
    with pytest.raises(ValueError, match=message):
        _made(batches=batches, data=None, batch_size=None, **change)
    assert read == [0]


def test_the_scale_is_the_loss_of_the_untrained_model():
    task = _made(loss=lambda w, batch, key: 0.0 * w[0] + 3.0)
    assert task.scale == 3.0
    assert task.normalize(jnp.float32(3.0)) == pytest.approx(np.log(1.02))


@pytest.mark.optax_promotion
def test_what_an_evaluation_keeps_is_found_for_the_same_functions_and_data_only(tmp_path):
    """What the functions close over counts, however large it is."""

    def number_kept(data=X, last=1.0):
        scale = np.append(np.ones(5000, np.float32), np.float32(last))
        task = _made(loss=lambda w, batch, key: jnp.mean((batch @ w) ** 2) + jnp.mean(scale), data=data)
        protocol.judge(task, {}, horizons=[1], num_seeds=1, baselines=["adam-1e-3"], cache=tmp_path)
        return len(list(tmp_path.iterdir()))

    assert [number_kept(), number_kept(), number_kept(data=2 * X), number_kept(last=2.0)] == [1, 1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None, "batch_size": None}, "mine: there must be either batches.key., .*; got neither"),
        ({"batches": lambda key: [X], "batch_size": None}, "got both"),
        ({"batches": lambda key: [X], "data": None}, "batch_size goes with data.* Leave batch_size out"),
        ({"batch_size": None}, "mine: with data, batch_size must be"),
        ({"loss": lambda w, batch: 0.0}, "mine: loss must be a function loss"),
        ({"held_out": lambda key: None}, "mine: held_out.key. must be a pytree of arrays, got None"),
        ({"held_out": lambda key: X, "loss": lambda w, b, key: jnp.mean(b) if len(b) == 3 else b}, r"float32\[6, 2\]"),
        ({"data": np.where(X == 5.0, np.nan, X)}, r"on example 2 of data must be finite"),
    ],
    ids=["neither", "both", "batch size", "no batch size", "arguments", "no held out", "held-out loss", "NaN"],
)
def test_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        _made(**changes)


def test_errors_of_the_functions_are_not_touched():
    error = KeyError("theirs")

    def loss(w, batch, key):
        raise error

    with pytest.raises(KeyError) as caught:
        _made(loss=loss)
    assert caught.value is error
