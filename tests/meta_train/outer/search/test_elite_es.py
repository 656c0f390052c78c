"""The elite evolution strategy: how far it travels and how fast it narrows on a slope, and a generation by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from meta_train import Problem
from meta_train import fit
from meta_train.outer import search
from meta_train.unroll import truncation


def test_travel_and_narrowing_on_a_linear_loss():
    """With the better half kept the std shrinks by sqrt(1 - 2 / pi) = 0.603 a generation, and the travel is 2.009."""
    std, generations = 0.5, 20
    strategy = search.elite_es(num_candidates=20_000, num_elites=10_000, std=std)

    @jax.jit
    def run(key):
        def generation(state, key):
            candidates = strategy.ask(key, state)
            state = strategy.tell(key, state, candidates, 7 * candidates, None)
            return state, state

        keys = jax.random.split(key, generations)
        return jax.lax.scan(generation, strategy.init(key, jnp.zeros(())), keys)[1]

    states = run(jax.random.key(0))
    ratios = np.asarray(states.std) / np.append(std, states.std[:-1])
    np.testing.assert_allclose(ratios, np.sqrt(1 - 2 / np.pi), rtol=0.03)
    np.testing.assert_allclose(ratios.mean(), 0.6028, rtol=0.005)
    np.testing.assert_allclose(-states.mean[-1], 2.009 * std, rtol=0.02)


def test_a_generation_by_hand():
    """The best three of five; those that are not finite are never among them."""
    strategy = search.elite_es(num_candidates=5, num_elites=3, std=2.0)
    state = strategy.init(jax.random.key(0), {"a": jnp.array([1.0, 2.0]), "b": jnp.zeros(())})
    np.testing.assert_array_equal(state.std["a"], [2, 2])
    candidates = strategy.ask(jax.random.key(1), state)
    assert candidates["a"].shape == (5, 2) and candidates["b"].shape == (5,)
    tell = jax.jit(lambda losses: strategy.tell(jax.random.key(2), state, candidates, losses, None))
    for losses, elites in (
        ([3.0, 1.0, 5.0, 2.0, 4.0], [1, 3, 0]),
        ([jnp.nan, 1.0, -jnp.inf, 2.0, jnp.inf], [1, 3]),
        ([3.0, jnp.nan, jnp.nan, jnp.nan, jnp.nan], [0]),
    ):
        after = tell(jnp.array(losses))
        for name, array in candidates.items():
            chosen = np.asarray(array)[elites]
            np.testing.assert_allclose(after.mean[name], chosen.mean(axis=0), rtol=1e-5)
            np.testing.assert_allclose(after.std[name], chosen.std(axis=0), rtol=1e-5, atol=1e-6)
    after = tell(jnp.full(5, jnp.nan))
    jax.tree.map(np.testing.assert_array_equal, after, state)


@pytest.mark.parametrize("num_elites", [4, 12, 40])
def test_chance_alone_narrows_it(num_elites):
    """Equal losses choose at random. n samples have the variance chi²/n, with n - 1 degrees of freedom."""
    strategy = search.elite_es(num_candidates=60, num_elites=num_elites, std=1.0)
    state = strategy.init(jax.random.key(0), jnp.zeros(20_000))
    candidates = strategy.ask(jax.random.key(1), state)
    state = strategy.tell(jax.random.key(2), state, candidates, jnp.zeros(60), None)
    logs = np.log(state.std)
    expected = (scipy.special.digamma((num_elites - 1) / 2) - np.log(num_elites / 2)) / 2
    assert expected == pytest.approx({4: -0.33, 12: -0.09, 40: -0.03}[num_elites], abs=0.005)  # as the docstring says
    assert abs(logs.mean() - expected) < 4 * logs.std() / np.sqrt(len(logs))


def test_candidates_have_the_mean_and_the_std_of_the_state():
    strategy = search.elite_es(num_candidates=40_000, num_elites=1, std=1.0)
    state = strategy.init(jax.random.key(0), jnp.array([3.0, -1.0]))._replace(std=jnp.array([0.5, 2.0]))
    candidates = np.asarray(strategy.ask(jax.random.key(1), state))
    np.testing.assert_allclose(candidates.mean(axis=0), [3.0, -1.0], atol=0.04)
    np.testing.assert_allclose(candidates.std(axis=0), [0.5, 2.0], rtol=0.015)
    assert abs(np.corrcoef(candidates.T)[0, 1]) < 0.02


def _fit(**arguments):
    """The search for (3, -1) by noisy losses."""
    step = lambda key, theta, state, data: (state, jnp.sum((theta["x"] - data) ** 2) + jax.random.normal(key))
    problem = Problem(lambda key, theta, num_steps: (), step, np.array([3.0, -1.0], np.float32))
    estimator = search.episodes(problem, num_particles=2, horizon=truncation.constant(3))
    strategy = search.elite_es(num_candidates=30, num_elites=10, std=3.0)
    theta = {"x": np.zeros(2, np.float32)}
    return fit(estimator, theta, strategy, **{"num_steps": 20, "steps_per_dispatch": 4, "progress": False} | arguments)


def test_fit_and_resume(tmp_path):
    whole = _fit()
    np.testing.assert_allclose(whole.theta["x"], [3, -1], atol=0.02)
    losses = [record["loss"] for record in whole.metrics]
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 10
    assert whole.metrics[0]["inner_steps"] == 30 * 2 * 3
    _fit(num_steps=9, run_dir=tmp_path)
    resumed = _fit(run_dir=tmp_path, resume=True)
    np.testing.assert_array_equal(resumed.theta["x"], whole.theta["x"])
    assert [record["loss"] for record in resumed.metrics] == losses


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_elites": 0}, "num_elites must lie between 1 and num_candidates, got 0 of 4"),
        ({"num_elites": 5}, "num_elites must lie between 1 and num_candidates, got 5 of 4"),
        ({"std": 0.0}, "std must be positive, got 0.0"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        search.elite_es(**{"num_candidates": 4, "num_elites": 2, "std": 1.0} | arguments)
