"""What holds for every architecture whose steps are in units of Prodigy's distance."""

import pathlib
import runpy
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_optim

_REFERENCE = pathlib.Path(__file__).parents[1] / "reference"
parts = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "prodigy_parts.py")))

OPTIMIZERS = {
    "prodigy_muon": learned_optim.prodigy_muon(),
    "prodigy_residual": learned_optim.prodigy_residual(2),
    "prodigy_residual without a network": learned_optim.prodigy_residual(0),
}


@pytest.fixture(params=OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def optimizer(request):
    return request.param


def _theta(optimizer):
    """All weights are off their first values, by a fifth of a normal draw."""
    random = np.random.RandomState(0)
    draw = lambda leaf: np.asarray(leaf + 0.2 * random.standard_normal(leaf.shape), np.float32)
    return jax.tree.map(draw, _first(optimizer))


def _first(optimizer):
    return jax.device_get(jax.jit(optimizer.init)(jax.random.key(0)))


def test_steps_grow_with_the_problem(optimizer):
    """Starts and targets a thousand times as large: all steps are a thousand times as large."""
    theta = _theta(optimizer)
    theta["step"] = jax.tree.map(np.zeros_like, theta["step"])
    theta["direction"] = _first(optimizer)["direction"]
    tx = optimizer.transform(theta, num_steps=10)
    params = {"w": 5.0 + parts.W["w"]}
    large = jax.tree.map(lambda x: 1000.0 * x, params)
    expected = jax.tree.map(lambda x: 1000.0 * x, parts.run(tx, params, parts.GRADS)[0])
    parts.assert_close(parts.run(tx, large, parts.GRADS)[0], expected, rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-8, 1e6, 1e14])
def test_the_scale_of_gradients_does_not_matter(optimizer, scale):
    tx = optimizer.transform(_theta(optimizer), num_steps=10)
    scaled = jax.tree.map(lambda leaf: leaf * scale, parts.GRADS)
    parts.assert_close(parts.run(tx, parts.W, scaled)[0], parts.run(tx, parts.W, parts.GRADS)[0], rtol=3e-4)


def test_num_steps_may_be_traced_and_traced_zero_hides_it(optimizer):
    theta = _theta(optimizer)

    def run(num_steps):
        tx = optimizer.transform(theta, num_steps=num_steps)
        first, state = tx.update(parts.GRADS[0], tx.init(parts.W), parts.W)
        return first, tx.update(parts.GRADS[1], state, jax.tree.map(jnp.add, parts.W, first))[0]

    traced, given = jax.jit(run), jax.jit(run, static_argnums=0)
    parts.assert_close(traced(jnp.asarray(7, jnp.int32)), given(7), rtol=1e-5)
    parts.assert_close(traced(jnp.asarray(0, jnp.int32)), given(None), rtol=1e-5)


def test_derivatives_with_respect_to_theta_are_finite_where_gradients_or_parameters_vanish(optimizer):
    """A row and a column of zeros, as behind dead units; a matrix at zero; a vector without gradient."""
    grads = {"w": jnp.ones((3, 2)).at[0].set(0.0).at[:, 1].set(0.0), "b": jnp.zeros(2)}

    def total(theta, grads):
        tx = optimizer.transform(theta, num_steps=2)

        def step(carry, _):
            params, state = carry
            updates, state = tx.update(grads, state, params)
            return (jax.tree.map(jnp.add, params, updates), state), None

        params = jax.tree.map(jnp.zeros_like, grads)
        (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), None, length=3)
        return jnp.sum(params["w"]) + jnp.sum(params["b"])

    derivative = jax.jit(jax.grad(total))
    some = derivative(_theta(optimizer), grads)
    none = derivative(_theta(optimizer), jax.tree.map(jnp.zeros_like, grads))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((some, none)))
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves({**some, "unknown_horizon": jnp.ones(())}))
