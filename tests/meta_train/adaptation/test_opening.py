"""How adapt and tune begin: what they refuse, and what they keep of the settings."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import tasks
from meta_train.adaptation import opening


def mine(loss=lambda params, batch, key: jnp.mean((batch @ params["w"]) ** 2)):
    init = lambda key: {"w": jnp.ones(2), "b": jnp.ones(())}
    return tasks.from_functions("mine", init=init, loss=loss, data=np.ones((6, 2), np.float32), batch_size=2)


def run(task, folder, resume=False, lines=None, **settings):
    set_up = lambda task: types.SimpleNamespace(task=task, whole=task, objective="training")
    options = {"what": "a test", "minutes": 2.0, "num_steps": 3, "resume": resume, "quiet": True}
    tell = [].append if lines is None else lines.append
    return opening.opened(task, set_up, settings, out=folder, progress=tell, **options)


def test_a_run_goes_on_with_the_same_model_and_settings_alone(tmp_path):
    lines = []
    with run(mine(), tmp_path, lines=lines, seed=1) as began:
        began.journal.recall("a", lambda: 1), began.journal.recall("b", lambda: 2)
        facts = opening.facts(began, minutes=2.0, seed=1, command="c", out=tmp_path)
    assert lines == ["the gradient of params['b'] is zero: the loss does not depend on it"]
    assert facts.pop("minutes_taken") < 2.0
    assert facts == {"minutes": 2.0, "seed": 1, "command": "c", "folder": str(tmp_path)}
    with run(mine(), tmp_path, resume=True, seed=1) as again:
        assert again.journal.recall("a", lambda: 5) == 1
    with pytest.raises(ValueError, match="holds a test already"), run(mine(), tmp_path, seed=1):
        pass
    other = mine(lambda params, batch, key: jnp.mean((batch @ params["w"]) ** 4))
    with pytest.raises(ValueError, match=r"2 settings \(model, seed\)"), run(other, tmp_path, resume=True, seed=2):
        pass
