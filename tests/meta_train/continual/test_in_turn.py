"""Training in turn: plain training forgets, and consolidation less, at the cost of what is new."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import continual
from meta_train import data


def _apply(params, x):
    hidden = jax.nn.relu(x @ params["w"] + params["b"])
    return hidden @ params["out"]


def _params(hidden=12):
    one, two = jax.random.split(jax.random.key(0))
    shapes = {"w": jax.random.normal(one, (64, hidden)) / 8, "out": jax.random.normal(two, (hidden, 10)) / hidden**0.5}
    return {**shapes, "b": jnp.zeros(hidden)}


def _digits():
    dataset = data.load("digits")
    vectors = lambda x: x.reshape(len(x), -1)
    return data.Dataset(vectors(dataset.train_x), dataset.train_y, vectors(dataset.test_x), dataset.test_y)


def _trainer(importance, num_tasks=2):
    orders = jnp.asarray(continual.permutations(num_tasks, 64))

    @jax.jit
    def train(weight, num_steps):
        return continual.train_in_turn(
            _apply,
            _params(),
            _digits(),
            orders,
            optimizer=optax.sgd,
            rate=0.2,
            weight=weight,
            importance=importance,
            num_steps=num_steps,
            key=jax.random.key(1),
            batch_size=32,
            num_judged=100,
        )

    return lambda weight, num_steps=300: np.asarray(train(jnp.float32(weight), jnp.int32(num_steps)))


def test_forgetting_and_what_prevents_it():
    plain = _trainer(None)(0.0)
    assert plain.shape == (2, 2)
    assert plain[0, 0] > 0.85 and plain[0, 1] < 0.4  # the second task is unknown before its turn
    assert plain[1, 1] > 0.85 and plain[1, 0] < plain[0, 0] - 0.1
    ewc = _trainer(continual.fisher_importance(_apply))
    free, some, stiff = ewc(0.0), ewc(3.0), ewc(10.0)
    np.testing.assert_allclose(free, plain, atol=0.02)  # the same minibatches
    np.testing.assert_allclose(some[0], plain[0], atol=0.02)
    assert some[1].mean() > plain[1].mean() + 0.05
    assert stiff[1, 0] > some[1, 0] + 0.03 > plain[1, 0] + 0.1
    assert stiff[1, 1] < plain[1, 1]


def test_even_importance_is_l2():
    given = continual.even_importance(jax.random.key(0), {"a": jnp.zeros((2, 3))}, jnp.zeros((4, 2)))
    np.testing.assert_array_equal(given["a"], np.ones((2, 3)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"orders": jnp.zeros((2, 63), jnp.int32)}, r"same length, got \(64,\) and \(63,\): flatten the images"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_judged": 0}, "num_judged must be at least 1, got 0"),
    ],
)
def test_wrong_arguments(changes, message):
    arguments = {
        "optimizer": optax.sgd,
        "rate": 0.1,
        "weight": 0.0,
        "importance": None,
        "num_steps": 1,
        "key": jax.random.key(0),
    }
    orders = changes.get("orders", jnp.zeros((2, 64), jnp.int32))
    others = {name: value for name, value in changes.items() if name != "orders"}
    with pytest.raises(ValueError, match=message):
        continual.train_in_turn(_apply, _params(), _digits(), orders, **arguments | others)
