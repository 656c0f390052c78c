"""What a model is known by: equal for the same model, another one after a change of model or data."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import tasks
from meta_train.adaptation import journal
from meta_train.adaptation import probe

X = np.linspace(-1.0, 1.0, 12, dtype=np.float32).reshape(6, 2)


def model(*, init=lambda key: {"w": jax.random.normal(key, (2,))}, x=X, power=2, error=0.0):
    return tasks.from_functions(
        "mine",
        init=init,
        loss=lambda params, batch, key: jnp.mean(jnp.abs(batch @ params["w"]) ** power) + 1.0,
        data=x,
        batch_size=2,
        metrics=lambda params, batch: {"error": jnp.sum(jnp.abs(batch)) + error},
    )


def fingerprint(task):
    return probe.fingerprint(task, probe.probe(task))


def test_losses_and_gradients_are_those_of_the_task():
    task = model(
        init=lambda key: {"w": jnp.array([1.0, 0.0]), "unused": jnp.ones(3)}, x=np.full((6, 2), 2.0, np.float32)
    )
    found = probe.probe(task)
    np.testing.assert_allclose(found.losses, [5.0] * 3, rtol=1e-6)
    np.testing.assert_allclose(found.largest["w"], [8.0] * 3, rtol=1e-6)  # 2 · (2 · 1) · 2
    np.testing.assert_allclose(found.largest["unused"], [0.0] * 3)
    np.testing.assert_allclose(found.held_out["error"], [24.0] * 3, rtol=1e-6)


@pytest.mark.parametrize(
    "change",
    [{"power": 3}, {"x": X[::-1]}, {"x": X * 1.01}, {"error": 1.0}, {"init": lambda key: {"w": jnp.ones(2)}}],
    ids=["loss", "order", "data", "metrics", "init"],
)
def test_a_change_is_seen(change):
    same = fingerprint(model())
    assert journal._alike(same, json.loads(json.dumps(fingerprint(model(x=X * np.float32(1 + 1e-6))))))
    assert not journal._alike(same, fingerprint(model(**change)))
