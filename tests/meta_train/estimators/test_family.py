"""What all unrolled estimators share: shards, diverging particles, growing horizons."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import Problem
from meta_train import estimators
from meta_train.unroll import truncation

WINDOW = 3
NOT_FOR_ANY_PROBLEM = {"episode_losses": "gives no gradient", "reversible": "needs momentum descent"}


def _constructors(**options):
    """Of `estimators.__all__`, those that unroll any `Problem` and give a gradient, with the options that they take."""
    found = {}
    for name in sorted(set(estimators.__all__) - NOT_FOR_ANY_PROBLEM.keys()):
        if inspect.isfunction(getattr(estimators, name)):
            takes = inspect.signature(getattr(estimators, name)).parameters
            if {"problem", "num_particles", "horizon"} <= takes.keys():
                given = {option: value for option, value in options.items() if option in takes}
                found[name] = functools.partial(getattr(estimators, name), **given)
    return found


ALL = _constructors(unroll_length=WINDOW, noise_period=2 * WINDOW, num_backward=WINDOW)
ALL["pes, ranks"] = functools.partial(ALL["pes"], shaping=estimators.centered_ranks)
WINDOWS = {name for name, make in ALL.items() if "unroll_length" in make.keywords}


def _step(key, theta, state, data):
    state = 0.9 * state + theta["a"] * data + 0.1 * theta["b"] * jax.random.normal(key, state.shape)
    return state, jnp.mean(state**2)


def _problem():
    """A noisy walk that theta, of two leaves, pushes."""
    init = lambda key, theta, num_steps: theta["b"] + jax.random.normal(key, (2,))
    return Problem(init, _step, jnp.array([1.0, -0.5]))


THETA = {"a": jnp.array([0.3, -0.2]), "b": jnp.asarray(0.5)}


def test_the_registry_has_windows_and_whole_episodes():
    assert {"gpes", "nres", "pes", "truncated_backprop", "truncated_es"} <= WINDOWS
    assert {"forward_gradient", "forward_mode", "full_backprop", "full_es", "k_rmd"} <= ALL.keys() - WINDOWS


# "nres" and "pes" are built as "gpes" and "pes, ranks" are; "forward_mode" averages as "full_backprop" does.
@pytest.mark.parametrize("name", sorted(ALL.keys() - {"forward_mode", "nres", "pes"}))
def test_shards_make_no_difference_and_neither_does_a_particle_that_diverges(name, quick_to_compile):
    """Four particles on one device and on two, in episodes of several lengths; one of them is not finite."""
    estimator = ALL[name](_problem(), num_particles=4, horizon=truncation.log_uniform(4, 6))
    sharded = jax.shard_map(
        functools.partial(estimator.estimate, axis_name="shards"),
        mesh=jax.sharding.Mesh(np.asarray(jax.devices()[:2]), ("shards",)),
        in_specs=(jax.P(), jax.P(), jax.P("shards"), jax.P()),
        out_specs=(jax.P(), jax.P("shards"), jax.P()),
        check_vma=False,
    )

    @jax.jit
    def run(key):
        state = estimator.init(key, THETA)
        if name in WINDOWS:  # from the second to the fifth step on, so that some episodes end in the window
            inner = state.strategy if name == "guided_es" else state
            states, steps = inner.states.at[2].set(jnp.nan), jnp.array([1, 4, 1, 2], jnp.int32)
            inner = inner._replace(states=states, clock=inner.clock._replace(step=steps))
            state = state._replace(strategy=inner) if name == "guided_es" else inner
        return [estimate(key, THETA, state, estimator.data) for estimate in (estimator.estimate, sharded)]

    (gradient, state, info), (other, other_state, other_info) = run(jax.random.key(0))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4), gradient, other)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), state, other_state)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3), info, other_info)
    assert int(info.dropped) == int(name in WINDOWS)
    assert all(np.isfinite(leaf).all() and np.any(leaf != 0) for leaf in jax.tree.leaves(gradient))
    assert np.isfinite(info.gradient_variance)
    assert np.isfinite(info.step_losses[:WINDOW]).all()


@pytest.mark.parametrize("name", ["full_backprop", "full_es"])
def test_whole_episodes_that_diverge_are_left_out(name, quick_to_compile):
    """Half of the episodes, by their first state."""
    init = lambda key, theta, num_steps: jnp.where(jax.random.bernoulli(key), jnp.inf, jnp.ones(2))
    estimator = ALL[name](_problem()._replace(init=init), num_particles=32, horizon=truncation.constant(2))
    run = jax.jit(lambda key: estimator.estimate(key, THETA, estimator.init(key, THETA), estimator.data))
    gradient, _, info = run(jax.random.key(1))
    assert 6 < int(info.dropped) < 26
    assert np.isfinite(info.loss)
    assert np.isfinite(info.step_losses).all()
    assert all(np.isfinite(leaf).all() and np.any(leaf != 0) for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("name", ["full_es", "gpes"])
def test_horizons_grow_with_the_outer_step(name, quick_to_compile):
    """Episodes of 4 steps at first; from the second outer step on, of 4 to 12."""
    problem = Problem(lambda key, theta, num_steps: (), lambda key, theta, state, data: (state, jnp.sum(theta["a"])))
    estimator = ALL[name](problem, num_particles=64, horizon=truncation.growing(4, 12, num_steps=1))

    @jax.jit
    def run(key):
        def outer_step(state, key):
            _, state, info = estimator.estimate(key, THETA, state, estimator.data)
            made = jnp.sum(~jnp.isnan(info.step_losses), dtype=jnp.int32)
            return state, made if name == "full_es" else jnp.max(state.clock.horizon)

        return jax.lax.scan(outer_step, estimator.init(key, THETA), jax.random.split(key, 5))[1]

    lengths = run(jax.random.key(0))
    assert lengths[0] == 4
    assert 9 < lengths[-1] <= 12


@pytest.mark.parametrize("name", ["forward_mode", "full_es", "guided_es", "pes"])
def test_theta_of_several_dtypes(name, quick_to_compile):
    theta = {"a": THETA["a"].astype(jnp.bfloat16), "b": THETA["b"]}
    problem = _problem()
    problem = problem._replace(
        step=lambda key, theta, state, data: _step(key, {**theta, "a": theta["a"].astype(jnp.float32)}, state, data)
    )
    estimator = ALL[name](problem, num_particles=2, horizon=truncation.constant(WINDOW))
    state = estimator.init(jax.random.key(0), theta)
    gradient, _, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
    assert jax.tree.map(lambda leaf: leaf.dtype, gradient) == jax.tree.map(lambda leaf: leaf.dtype, theta)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient)) and jnp.isfinite(info.loss)


@pytest.mark.parametrize("name", ["full_es", "gpes", "truncated_es"])
def test_without_arrays_there_is_nothing_to_perturb(name):
    problem = Problem(lambda key, theta, num_steps: jnp.zeros(()), lambda key, theta, state, data: (state, state))
    estimator = ALL[name](problem, num_particles=2, horizon=truncation.constant(WINDOW))
    with pytest.raises(ValueError, match="theta holds no array, so there is nothing to perturb"):
        estimator.estimate(jax.random.key(1), {}, estimator.init(jax.random.key(0), {}), estimator.data)
