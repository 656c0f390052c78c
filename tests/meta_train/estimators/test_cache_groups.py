"""Groups of particles: how many fit, and that results do not depend on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import Problem
from meta_train.estimators import cache_groups
from meta_train.estimators.pes import pes
from meta_train.estimators.truncated_es import truncated_es
from meta_train.unroll import truncation


@pytest.mark.parametrize(
    ("num_particles", "state_bytes", "expected"),
    [
        (8, 8 * 100, 8),  # all of them
        (8, 8 * 101, 4),  # seven would fit, but do not divide eight
        (7, 7 * 200, 1),
        (6, 6 * 300, 2),
        (4, 4 * 10_000, 1),  # a single one does not fit
    ],
)
def test_a_group_is_the_largest_divisor_that_fits(monkeypatch, num_particles, state_bytes, expected):
    monkeypatch.setattr(cache_groups, "CACHE_BYTES", 800)
    assert cache_groups.size(num_particles, state_bytes) == expected


def test_groups_keep_the_particles_in_order(monkeypatch):
    monkeypatch.setattr(cache_groups, "CACHE_BYTES", 2 * 16)
    state = {"x": jnp.arange(12.0).reshape(6, 2), "key": jax.random.split(jax.random.key(0), 6)}
    seen = []

    def function(state):
        seen.append(state["x"].shape)
        return {"sum": jnp.sum(state["x"]), "key": state["key"], "none": None}

    traced = jax.make_jaxpr(lambda state: cache_groups.vmap(function, state)["sum"])(state)
    (scan,) = (e for e in traced.eqns if e.primitive.name == "scan")
    assert scan.params["length"] == 3
    made = cache_groups.vmap(function, state)
    np.testing.assert_array_equal(made["sum"], [1.0, 5.0, 9.0, 13.0, 17.0, 21.0])
    assert jnp.all(made["key"] == state["key"])
    assert set(seen) == {(2,)}


def test_accelerators_run_all_particles_at_once(monkeypatch):
    monkeypatch.setattr(cache_groups, "CACHE_BYTES", 1)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    traced = str(jax.make_jaxpr(lambda x: cache_groups.vmap(jnp.sin, x))(jnp.ones(4)))
    assert "sin" in traced
    assert "scan" not in traced


@pytest.mark.parametrize("constructor", [pes, truncated_es])
def test_an_estimate_does_not_depend_on_the_groups(monkeypatch, constructor):
    """Eight pairs, in windows in which some episodes end: at once, and two by two."""
    loss = lambda key, theta, state: jnp.sum(state**2) + theta * jax.random.normal(key)
    problem = Problem(
        init=lambda key, theta, num_steps: jax.random.normal(key, (3,)),
        step=lambda key, theta, state, data: (state * jnp.cos(theta), loss(key, theta, state)),
    )
    estimator = constructor(problem, num_particles=8, unroll_length=2, horizon=truncation.log_uniform(3, 5))
    theta = jnp.float32(0.5)
    start = estimator.init(jax.random.key(0), theta)

    def run(cache_bytes):
        monkeypatch.setattr(cache_groups, "CACHE_BYTES", cache_bytes)

        def body(state, key):
            gradient, state, info = estimator.estimate(key, theta, state, estimator.data)
            return state, (gradient, info.loss)

        state, made = jax.jit(lambda: jax.lax.scan(body, start, jax.random.split(jax.random.key(1), 3)))()
        return jax.tree.leaves((made, state))

    total = sum(leaf.nbytes for leaf in jax.tree.leaves(start))
    for whole, grouped in zip(run(total), run(total // 4), strict=True):
        np.testing.assert_allclose(grouped, whole, rtol=1e-5, atol=1e-6)
