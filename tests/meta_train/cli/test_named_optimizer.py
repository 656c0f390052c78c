"""Optimizers by name or file, told the number of steps or not."""

import jax
import jax.numpy as jnp
import optax
import pytest

import learned_optim
from meta_train.cli import named_optimizer


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


def test_the_prior_is_the_architecture_with_the_theta_that_training_begins_with(path):
    optimizer, theta = learned_optim.load(path)
    begun = optimizer.init(jax.random.key(0))
    ((name, told),) = named_optimizer.prior(path).items()
    ((other, untold),) = named_optimizer.prior(path, told=False).items()
    assert (name, other) == (f"{path}, before training", f"{path} without num_steps, before training")
    found = _second_update(told(10))
    assert jnp.allclose(found, _second_update(optimizer.transform(begun, num_steps=10)))
    assert not jnp.allclose(found, _second_update(optimizer.transform(theta, num_steps=10)))
    assert jnp.allclose(_second_update(untold), _second_update(optimizer.transform(begun)))


def test_a_prior_of_random_weights_says_so(tmp_path):
    optimizer, path = learned_optim.mlp(hidden_sizes=(2,)), tmp_path / "mlp.safetensors"
    learned_optim.save(path, optimizer, optimizer.init(jax.random.key(3)))
    assert list(named_optimizer.prior(str(path))) == [f"{path}, before training (random weights)"]


@pytest.mark.parametrize("ending", ["mine.safetensors", "a run", "mine"])
def test_a_file_or_the_folder_of_a_run(path, tmp_path, ending):
    (tmp_path / "a run").mkdir()
    for copy in ("a run/theta.safetensors", "mine"):
        (tmp_path / copy).write_bytes((tmp_path / "mine.safetensors").read_bytes())
    expected = _second_update(named_optimizer.load(path, [10])(10))
    assert jnp.array_equal(_second_update(named_optimizer.load(str(tmp_path / ending), [10])(10)), expected)


def test_a_packed_folder_is_checked_and_knows_its_horizons(path, tmp_path):
    folder = learned_optim.pack(path, tmp_path / "packed", horizon=(10, 20))
    expected = _second_update(named_optimizer.load(path, [10])(10))
    assert jnp.array_equal(_second_update(named_optimizer.load(str(folder), [10])(10)), expected)
    with pytest.warns(UserWarning, match="was made for runs of 10 to 20 steps; num_steps=30"):
        named_optimizer.load(str(folder), [10, 30])
    (folder / "theta.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="is not the file that"):
        named_optimizer.load(str(folder), [])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("defualt", "no released optimizer 'defualt'. Did you mean 'default'? Give a released name, a "),
        ("mlp-digit-v1", "Did you mean 'mlp-digits-v1'? Give"),
        ("", "no released optimizer ''. Give a released name, a .safetensors file, or the folder of a run"),
        ("nope.safetensors", "there is no file or folder nope.safetensors. Give"),
        ("runs/mien", "there is no file or folder runs/mien. Did you mean 'runs/mine'? Give"),
        ("runs/mine/theta.safetensor", "Did you mean 'runs/mine/theta.safetensors'? Give"),
        ("runs/unfinished", "holds a run without theta.safetensors, for it has not come to its end: go on with it"),
        ("demo", "the folder demo has no theta.safetensors. Did you mean demo/my-optimizer.safetensors?"),
        ("runs", "the folder runs has no theta.safetensors. Give"),
    ],
)
def test_there_is_none_of_that_name(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in ("runs/mine/theta.safetensors", "runs/unfinished/run.json", "demo/my-optimizer.safetensors"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_bytes(b"")
    with pytest.raises(ValueError) as error:
        named_optimizer.load(name, [])
    assert message in str(error.value)
    assert "learned_optim." not in str(error.value)
