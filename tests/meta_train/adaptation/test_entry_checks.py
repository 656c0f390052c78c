"""What a user is told of a model that cannot be adapted to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import tasks
from meta_train.adaptation import entry_checks
from meta_train.adaptation.probe import probe
from meta_train.adaptation.trainings import Made
from meta_train.adaptation.trainings import Trainings


def task(loss, params=None):
    params = {"w": jnp.ones(2), "b": jnp.ones(())} if params is None else params
    data = np.ones((6, 2), np.float32)
    return tasks.from_functions("mine", init=lambda key: params, loss=loss, data=data, batch_size=2)


def test_a_loss_without_a_gradient_is_refused_and_an_unused_parameter_is_named():
    flat = task(lambda params, batch, key: 1.0 + jnp.mean(jnp.round(batch @ params["w"])) + 0.0 * params["b"])
    with pytest.raises(ValueError, match=r"mine: the gradient of loss must not be zero, .* argmax, round"):
        entry_checks.check_gradient(flat, probe(flat))
    partly = task(lambda params, batch, key: jnp.mean((batch @ params["w"]) ** 2))
    assert entry_checks.check_gradient(partly, probe(partly)) == [
        "the gradient of params['b'] is zero: the loss does not depend on it"
    ]


def fake(losses, held_out=1.0):
    def run(thetas, keys, marks, *, data):
        rows = np.stack([losses[: marks[-1]]] * len(thetas)).astype(np.float32)
        return Made(rows, {"loss": np.full((1, len(thetas)), held_out, np.float32)})

    return Trainings(run, None, 2, 4)


@pytest.mark.parametrize(
    ("losses", "held_out", "hint"),
    [
        ([2.0, 1.0, np.nan, np.nan], 1.0, "it is nan from step 2 on, with the default optimizer, on 4 of 4 seeds"),
        ([np.inf, 1.0, 1.0, 1.0], 1.0, "it is inf from the initial parameters on"),
        ([2.0, 1.0, -0.5, 1.0], 1.0, "the loss must be positive, got -0.5 within 4 steps"),
        ([2.0, 1.0, 1.0, 1.0], np.nan, "the held-out loss must be finite, got nan after 4 steps"),
    ],
)
def test_first_steps(losses, held_out, hint):
    mine = task(lambda params, batch, key: jnp.mean((batch @ params["w"]) ** 2) + params["b"] ** 2)
    entry_checks.check_first_steps(mine, fake(np.ones(4)), np.zeros(38), 4, None)
    with pytest.raises(ValueError, match=hint):
        entry_checks.check_first_steps(mine, fake(np.array(losses), held_out), np.zeros(38), 4, None)
    assert jax.devices()
