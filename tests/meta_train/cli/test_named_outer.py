"""Outer optimizers by the names of the command line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_optim
from meta_train.cli import named_outer
from meta_train.outer.search.base import SearchStrategy

SGD = learned_optim.learned_sgd(0.5)
THETA = {"log_learning_rate": jnp.log(jnp.asarray(0.5))}
GRADIENT = {"log_learning_rate": jnp.asarray(2.0)}


def _step(outer, count=1):
    state = outer.init(THETA)
    for _ in range(count):
        updates, state = outer.update(GRADIENT, state, THETA, value=jnp.asarray(1.0), task_losses=jnp.ones(1))
    return float(updates["log_learning_rate"])


def test_live_moves_theta_by_itself_and_bounds_hold():
    assert _step(named_outer.build("live", SGD, 10)) == -1.0
    np.testing.assert_allclose(_step(named_outer.build("live", SGD, 10, max_step=0.25, trust_ratio=None)), -0.25)


def test_a_released_optimizer_and_one_from_a_file(tmp_path):
    learned_optim.save(tmp_path / "sgd.safetensors", SGD, {"log_learning_rate": jnp.log(jnp.asarray(0.1))})
    outer = named_outer.build(f"learned:{tmp_path / 'sgd.safetensors'}", SGD, 10)
    np.testing.assert_allclose(_step(outer), -0.2, rtol=1e-6)
    scaled = named_outer.build(f"learned:{tmp_path / 'sgd.safetensors'}", SGD, 10, step_scale=0.5)
    np.testing.assert_allclose(_step(scaled), -0.1, rtol=1e-6)
    np.testing.assert_allclose(_step(named_outer.build("live", SGD, 10, step_scale=0.3)), -0.3, rtol=1e-6)
    with pytest.raises(ValueError, match="step_scale is for learned outer optimizers, got 'adamw'"):
        named_outer.build("adamw", SGD, 10, step_scale=0.3)
    optimizer, theta = learned_optim.load_pretrained("default")
    tx = optimizer.transform(theta, num_steps=1000)
    updates, _ = tx.update(GRADIENT, tx.init(THETA), THETA)
    np.testing.assert_allclose(
        _step(named_outer.build("learned:default", SGD, 1000)), updates["log_learning_rate"], rtol=1e-5
    )


@pytest.mark.optax_promotion
def test_adamw_warms_up_to_its_rate():
    np.testing.assert_allclose(_step(named_outer.build("adamw:0.02", SGD, 50), count=6), -0.02, rtol=1e-2)
    np.testing.assert_allclose(_step(named_outer.build("adamw", SGD, 50), count=6), -0.003, rtol=1e-2)


def test_a_population_has_ten_members_unless_told_otherwise():
    made = named_outer.build("population", SGD, 10), named_outer.build("population:3", SGD, 10, max_step=1.0)
    assert all(isinstance(strategy, SearchStrategy) for strategy in made)
    assert [strategy.num_candidates for strategy in made] == [10, 3]
    state = made[1].init(jax.random.key(0), THETA)
    told = made[1].tell(
        jax.random.key(1), state, state.members.theta, jnp.zeros(3), {"log_learning_rate": jnp.full(3, 20.0)}
    )
    np.testing.assert_allclose(told.members.theta["log_learning_rate"], np.log(0.5) - 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["sgd", "live:2", "learned", "learned:", "adamw:fast", "adamw:0", "adamw:inf", "population:-1", ""]
)
def test_other_names_are_errors(name):
    with pytest.raises(ValueError, match=rf"must be adamw\[:RATE\], learned:NAME, live or pop.*got '{name}'"):
        named_outer.build(name, SGD, 10)


def test_a_released_optimizer_that_does_not_exist():
    with pytest.raises(ValueError, match="adam-residual-schedule-v1"):
        named_outer.build("learned:adam-residual-schedul-v1", SGD, 100)
