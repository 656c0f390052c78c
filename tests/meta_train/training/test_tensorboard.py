"""TensorBoard's event files, read back: the numbers of metrics.jsonl, each step once, resumed or not."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tensorboardX.proto import event_pb2

from meta_train import Estimator
from meta_train import estimators
from meta_train import fit


def _scalars(folder):
    """Name -> list of (step, value), from the records of all event files: length, checksum, event, checksum."""
    found = {}
    for path in sorted((folder / "tensorboard").iterdir()):
        content, position = path.read_bytes(), 0
        while position < len(content):
            length = int.from_bytes(content[position : position + 8], "little")
            event = event_pb2.Event.FromString(content[position + 12 : position + 12 + length])
            position += 12 + length + 4
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def _fit(**arguments):
    def estimate(key, theta, state, data, axis_name=None):
        info = estimators.Info(0.5 * jnp.sum(theta**2), jnp.asarray(0, jnp.int32), jnp.asarray(30, jnp.int32))
        return theta, state, info

    estimator = Estimator(lambda key, theta: jax.random.normal(key, (2,)), estimate, (), 2, "bowl")
    theta = np.array([3.0, -4.0], np.float32)
    return fit(estimator, theta, optax.sgd(0.1), steps_per_dispatch=3, progress=False, **arguments)


def test_scalars_are_the_metrics_with_every_step_once(tmp_path):
    _fit(num_steps=5, run_dir=tmp_path)  # without
    assert not (tmp_path / "tensorboard").exists()
    for num_steps in (8, 8, 12):
        result = _fit(num_steps=num_steps, run_dir=tmp_path, resume=True, tensorboard=True)
        scalars = _scalars(tmp_path)
        assert scalars.keys() == {"loss", "loss/bowl", "grad_norm", "dropped", "inner_steps_per_second"}
        for name in ("loss", "loss/bowl", "grad_norm", "dropped"):
            assert [step for step, _ in scalars[name]] == list(range(1, num_steps + 1))
            np.testing.assert_allclose([x for _, x in scalars[name]], [row[name] for row in result.metrics], rtol=1e-6)
        steps, rates = zip(*scalars["inner_steps_per_second"], strict=True)
        assert list(steps) == sorted(set(steps)) and steps[-1] == num_steps
        assert all(rate > 0 for rate in rates)


def test_it_needs_a_folder_and_the_extra(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="tensorboard=True writes its files to run_dir, got None"):
        _fit(num_steps=1, tensorboard=True)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install tensorboardX"):
        _fit(num_steps=1, run_dir=tmp_path, tensorboard=True)
