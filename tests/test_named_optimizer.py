"""Optimizers by name or file, told the number of steps or not."""

import jax
import jax.numpy as jnp
import optax
import pytest

import learned_optim
from meta_train import named_optimizer


@pytest.fixture
def path(tmp_path):
    """An optimizer whose updates depend on the number of steps."""
    optimizer = learned_optim.learned_schedule()
    theta = optimizer.init(jax.random.key(0))
    theta["log_knots"] += jnp.arange(1.0, 1.0 + len(theta["log_knots"]))
    learned_optim.save(tmp_path / "mine.safetensors", optimizer, theta)
    return str(tmp_path / "mine.safetensors")


def _second_update(tx):
    params, grads = jnp.ones(3), jnp.array([1.0, -2.0, 3.0])
    _, state = tx.update(grads, tx.init(params), params)
    return tx.update(grads, state, params)[0]


def test_one_that_is_told_and_one_that_is_not(path):
    ((name, told),) = named_optimizer.contender(path, [10, 20]).items()
    ((other, untold),) = named_optimizer.contender(path, [10, 20], told=False).items()
    assert (name, other) == (path, f"{path} without num_steps")
    assert isinstance(untold, optax.GradientTransformation)
    optimizer, theta = learned_optim.load(path)
    for num_steps in (10, 20):
        traced = jax.jit(lambda num_steps: _second_update(told(num_steps)))(num_steps)
        expected = _second_update(optimizer.transform(theta, num_steps=num_steps))
        assert jnp.allclose(traced, expected, rtol=1e-5)
        assert not jnp.allclose(expected, _second_update(untold), rtol=1e-5)


def test_a_released_one_warns_of_horizons_that_it_was_not_trained_for(monkeypatch):
    monkeypatch.setattr(learned_optim.released, "_warned", set())
    with pytest.warns(UserWarning, match="num_steps=100000 is outside"):
        named_optimizer.load("default", [500, 100000])


def test_there_is_none_of_that_name():
    with pytest.raises(ValueError, match="no released optimizer 'defualt'"):
        named_optimizer.load("defualt", [])
