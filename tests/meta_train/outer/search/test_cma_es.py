"""CMA-ES: the very search of the package, whose state survives in arrays."""

import cma
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import Problem
from meta_train import fit
from meta_train.outer import search
from meta_train.unroll import truncation

TARGET, SCALES = np.array([3.0, -1.0, 0.5]), np.array([1.0, 10.0, 100.0])
THETA = {"x": np.zeros(2, np.float32), "y": np.float32(0.0)}


def _loss(numbers):
    return (SCALES.astype(numbers.dtype) * (numbers - TARGET.astype(numbers.dtype)) ** 2).sum(-1)


def _numbers(theta):
    return jnp.concatenate([theta["x"], theta["y"][..., None]], axis=-1)


def _begin(strategy, seed=0):
    return strategy.on_host(strategy.init(jax.random.key(seed), THETA))


def _generations(strategy, state, count, spoil=lambda losses: losses):
    asked = []
    for _ in range(count):
        candidates = strategy.ask(None, state)
        asked.append(np.asarray(_numbers(candidates)))
        losses = spoil(_loss(_numbers(candidates)))
        state = strategy.on_host(strategy.tell(None, state, candidates, losses, None))
    return state, np.stack(asked)


@pytest.mark.parametrize("diagonal", [False, True])
def test_generations_are_those_of_the_package(diagonal):
    """With the same normal numbers and losses, and without a draw from NumPy's global generator."""
    strategy = search.cma_es(num_candidates=7, std=0.8, diagonal=diagonal)
    state = _begin(strategy, seed=3)
    np.random.seed(5)
    final, asked = _generations(strategy, state, 6)
    assert np.random.random_sample() == np.random.RandomState(5).random_sample()

    randn = np.random.RandomState(int(state.seed)).randn
    options = {"popsize": 7, "randn": randn, "seed": np.nan, "verbose": -9, "CMA_diagonal": diagonal}
    package = cma.CMAEvolutionStrategy(np.zeros(3), 0.8, options)
    for candidates in asked:
        solutions = package.ask()
        np.testing.assert_array_equal(candidates, np.asarray(solutions, np.float32))
        package.tell(solutions, np.asarray(_loss(jnp.asarray(candidates)), np.float64).tolist())
    np.testing.assert_array_equal(_numbers(strategy.best(final)), package.mean.astype(np.float32))


def test_the_state_determines_the_search():
    """Another strategy, or the same one after other searches, goes on from a state where the first would have."""
    build = lambda: search.cma_es(num_candidates=5, std=0.5, max_generations=10)
    strategy = build()
    state = _begin(strategy)
    np.testing.assert_array_equal(_numbers(strategy.best(state)), np.zeros(3))
    middle, _ = _generations(strategy, state, 4)
    final, asked = _generations(strategy, middle, 3)
    _generations(strategy, _begin(strategy, seed=1), 5)
    for other in (strategy, build()):
        again, asked_again = _generations(other, middle, 3)
        np.testing.assert_array_equal(asked_again, asked)
        jax.tree.map(np.testing.assert_array_equal, again, final)
    _, other_asked = _generations(strategy, _begin(strategy, seed=1), 1)
    assert np.all(other_asked[0] != asked[0])


def test_candidates_that_diverged_count_as_the_worst():
    strategy = search.cma_es(num_candidates=6, std=0.5)
    state = _begin(strategy)
    spoil = lambda worst: lambda losses: jnp.where(losses >= jnp.sort(losses)[4], worst, losses)
    results = [
        _numbers(strategy.best(_generations(strategy, state, 3, spoil(worst))[0])) for worst in (jnp.nan, 1e9, -1e9)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    assert np.all(results[0] != results[2])
    after, _ = _generations(strategy, state, 3, lambda losses: jnp.full_like(losses, jnp.nan))
    assert np.all(np.isfinite(_numbers(strategy.best(after))))


def _fit(**arguments):
    step = lambda key, theta, state, data: (state, _loss(_numbers(theta)))
    problem = Problem(lambda key, theta, num_steps: (), step)
    estimator = search.episodes(problem, num_particles=2, horizon=truncation.constant(1))
    strategy = search.cma_es(num_candidates=8, std=1.0, max_generations=60)
    return fit(estimator, THETA, strategy, **{"num_steps": 60, "progress": False} | arguments)


def test_fit_and_resume(tmp_path):
    whole = _fit()
    np.testing.assert_allclose(_numbers(whole.theta), TARGET, atol=0.01)
    _fit(num_steps=25, run_dir=tmp_path)
    resumed = _fit(run_dir=tmp_path, resume=True)
    jax.tree.map(np.testing.assert_array_equal, resumed.theta, whole.theta)
    assert [r["loss"] for r in resumed.metrics] == [r["loss"] for r in whole.metrics]


def test_too_many_generations():
    strategy = search.cma_es(num_candidates=4, std=1.0, max_generations=2)
    state, _ = _generations(strategy, _begin(strategy), 2)
    with pytest.raises(ValueError, match="has made its 2 outer steps: give cma_es more max_generations"):
        _generations(strategy, state, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_candidates": 2}, "num_candidates must be at least 3, got 2"),
        ({"std": 0.0}, "std must be positive, got 0.0"),
        ({"max_generations": 0}, "max_generations must be at least 1, got 0"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        search.cma_es(**{"num_candidates": 4, "std": 1.0} | arguments)


def test_a_single_number_is_refused():
    with pytest.raises(ValueError, match="at least two numbers, got one: use elite_es"):
        search.cma_es(num_candidates=4, std=1.0).init(jax.random.key(0), jnp.zeros(()))


def test_without_the_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install cma, or use elite_es"):
        search.cma_es(num_candidates=4, std=1.0)
