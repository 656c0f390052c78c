"""A network's own training by `pbt`: what each loss does, whose rate updates whom, and that better rates take over."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import estimators
from meta_train import fit
from meta_train.outer import search
from meta_train.outer.search.pbt import Member
from meta_train.unroll import truncation


def _problem():
    """One parameter, drawn to 3 by the training loss and judged by its distance from 2.9."""
    loss = lambda params, key, data: jnp.sum(jnp.square(params["w"] - data))
    validate = lambda params, key, data: jnp.abs(params["w"] - 2.9)
    return search.network_training(loss, validate, np.float32(3.0))


def _theta(**hyperparameters):
    return search.Trainee({"w": jnp.zeros(())}, {name: jnp.float32(x) for name, x in hyperparameters.items()})


def test_the_value_is_that_of_validation_and_the_gradient_that_of_training():
    problem = _problem()
    step = lambda theta: problem.step(jax.random.key(0), theta, (), problem.data)[1]
    value, gradient = jax.value_and_grad(step)(_theta(rate=0.5))
    assert float(value) == np.float32(2.9)
    assert float(gradient.params["w"]) == -6.0
    assert float(gradient.hyperparameters["rate"]) == 0.0


def test_each_member_has_the_optimizer_that_its_hyperparameters_make():
    made = lambda rate, decay: optax.chain(optax.add_decayed_weights(decay), optax.trace(0.5), optax.scale(-rate))
    tx = search.by_own_hyperparameters(made)
    theta = jax.tree.map(lambda *x: jnp.stack(x), _theta(rate=0.1, decay=0.0), _theta(rate=0.2, decay=0.5))
    theta = theta._replace(params={"w": jnp.array([1.0, 1.0])})
    gradient = jax.tree.map(jnp.ones_like, theta)
    state = jax.vmap(tx.init)(theta)
    updates, state = jax.vmap(tx.update)(gradient, state, theta)
    np.testing.assert_allclose(updates.params["w"], [-0.1, -0.2 * 1.5], rtol=1e-6)
    updates, _ = jax.vmap(tx.update)(gradient, state, theta)
    np.testing.assert_allclose(updates.params["w"], [-0.1 * 1.5, -0.2 * 2.25], rtol=1e-6)
    np.testing.assert_array_equal(updates.hyperparameters["rate"], [0.0, 0.0])
    with pytest.raises(ValueError, match="needs theta"):
        tx.update(gradient, state)


def test_exploration_keeps_the_parameters():
    copied, own = (Member(_theta(rate=x, decay=2 * x), jnp.float32(x)) for x in (1.0, 5.0))
    rates = set()
    for seed in range(30):
        new = search.scale_hyperparameters(jax.random.key(seed), copied, own)
        assert float(new.theta.params["w"]) == 0.0 and float(new.outer_state) == 1.0
        rates.add(
            (round(float(new.theta.hyperparameters["rate"]), 3), round(float(new.theta.hyperparameters["decay"]), 3))
        )
    assert rates == {(0.8, 1.6), (0.8, 2.4), (1.2, 1.6), (1.2, 2.4)}


def test_a_population_gets_where_none_of_its_first_rates_leads(tmp_path):
    """Rates of 1e-4 to 4e-4 would end at 0.24 of the way; copies with larger rates go all of it."""
    estimator = estimators.truncated_backprop(
        _problem(), num_particles=1, unroll_length=1, horizon=truncation.constant(1)
    )

    def run(interval, **arguments):
        first = lambda key, index, theta: theta._replace(
            hyperparameters={"rate": 1e-4 * (1 + index.astype(jnp.float32))}
        )
        strategy = search.pbt(
            search.by_own_hyperparameters(lambda rate: optax.scale(-rate)),
            num_candidates=4,
            interval=interval,
            explore=search.scale_hyperparameters,
            vary=first,
        )
        arguments = {"num_steps": 350, "steps_per_dispatch": 50, "progress": False} | arguments
        return fit(estimator, _theta(rate=0.0), strategy, devices=jax.devices()[:1], **arguments)

    fixed, whole = run(10_000), run(5, run_dir=tmp_path, num_steps=200)
    np.testing.assert_allclose(fixed.theta.params["w"], 3 * (1 - (1 - 8e-4) ** 350), rtol=1e-4)
    whole = run(5, run_dir=tmp_path, resume=True)
    assert whole.theta.params["w"] > 2 * fixed.theta.params["w"]
    assert whole.theta.hyperparameters["rate"] > 2 * 4e-4
    np.testing.assert_array_equal(whole.theta.params["w"], run(5).theta.params["w"])
