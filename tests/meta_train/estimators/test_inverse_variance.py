"""Combination by inverse variance: of least variance, led by whoever is precise, and safe from numbers that are not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Problem
from meta_train import estimators
from meta_train import fit
from meta_train import problems
from meta_train.estimators import Info
from meta_train.estimators import inverse_variance
from meta_train.estimators import sliced
from meta_train.unroll import truncation

SLOPE = np.array([1.0, -2.0, 0.5], np.float32)
NOISES = np.array([[2.0, 4.0, 1.0], [1.0, 4.0, 8.0]], np.float32)  # standard deviation of a particle, by estimator
PARTICLES = (4, 8)
VARIANCES = NOISES**2 / np.array(PARTICLES)[:, None]  # [[1, 4, 1/4], [1/8, 2, 8]]


def _noisy(noise, num_particles):
    """The gradient of a particle is SLOPE and normal noise."""
    step = lambda key, theta, state, data: ((), theta @ (SLOPE + noise * jax.random.normal(key, (3,))))
    problem = Problem(lambda key, theta, num_steps: (), step)
    return estimators.truncated_backprop(
        problem, num_particles=num_particles, unroll_length=1, horizon=truncation.constant(1)
    )


@pytest.mark.parametrize("decay", [0.99, 0.0])
def test_two_unbiased_estimates(decay):
    """The mean stays right. With averages the variance is that of inverse weights; with each step's alone, near it."""
    estimator = inverse_variance([_noisy(*pair) for pair in zip(NOISES, PARTICLES, strict=True)], decay=decay)
    begun, count = 500, 20_000

    @jax.jit
    def run(key):
        def outer_step(state, key):
            gradient, state, info = estimator.estimate(key, jnp.zeros(3), state, estimator.data)
            return state, (gradient, info.gradient_variance, info.coordinate_variances)

        keys = jax.random.split(key, begun + count)
        return jax.lax.scan(outer_step, estimator.init(key, jnp.zeros(3)), keys)

    state, (gradients, trace, reported) = run(jax.random.key(0))
    gradients = np.asarray(gradients[begun:], np.float64)
    error = gradients.std(axis=0) / np.sqrt(count)
    assert np.all(abs(gradients.mean(axis=0) - SLOPE) < 4 * error)
    best = 1 / np.sum(1 / VARIANCES, axis=0)  # 1/9, 4/3, 0.242…
    variance, noise_of_variance = gradients.var(axis=0), np.sqrt(2 / count)
    assert np.all(variance > best * (1 - 4 * noise_of_variance))
    np.testing.assert_allclose(trace, np.sum(reported, axis=1), rtol=1e-5)
    if decay == 0:
        assert np.all(variance < 1.6 * best)  # 3 degrees of freedom tell the first variance badly
        assert variance[1] < 0.9 * VARIANCES[:, 1].min()
        return
    assert np.all(variance < best * (1.01 + 4 * noise_of_variance))
    assert variance[1] < 0.7 * VARIANCES[:, 1].min()
    np.testing.assert_allclose(np.mean(reported[begun:], axis=0), best, rtol=0.03)
    averages = sliced.join(state.variances, 3, None)  # 100 outer steps or so, of 3 and of 7 degrees of freedom
    np.testing.assert_allclose(averages, VARIANCES, rtol=0.3)


def _logistic_map():
    """x' = r x (1 - x), chaotic at r = 3.9 and at a fixed point for r = 2.5; the second coordinate has a minimum."""

    def step(key, theta, x, data):
        x = theta[0] * x * (1 - x)
        return x, x**2 + (theta[1] - 1) ** 2

    return Problem(lambda key, theta, num_steps: jax.random.uniform(key, (), minval=0.1, maxval=0.9), step)


@pytest.fixture(scope="module")
def logistic_estimates():
    """`(r) -> gradients` of the combination, of backpropagation and of evolution strategies, in one outer step."""
    size = {"num_particles": 16, "horizon": truncation.constant(60)}
    backprop = estimators.full_backprop(problems.smoothed(_logistic_map(), 0.01), **size)
    es = estimators.full_es(_logistic_map(), std=0.01, **size)
    both = inverse_variance([backprop, es])

    @jax.jit
    def run(key, r):
        theta = jnp.stack([r, jnp.asarray(3.0)])
        init_key, key = jax.random.split(key)
        state = both.init(init_key, theta)
        combined, _, info = both.estimate(key, theta, state, both.data)
        parts = [
            part.estimate(jax.random.fold_in(key, i), theta, state.states[i], part.data)[0]
            for i, part in enumerate((backprop, es))
        ]
        return combined, *parts, info

    return lambda r: jax.tree.map(np.asarray, run(jax.random.key(0), jnp.asarray(r)))


def test_where_backpropagation_explodes_evolution_strategies_lead(logistic_estimates):
    """In the coordinate that drives the chaos alone: the other one is left to backpropagation."""
    combined, backprop, es, info = logistic_estimates(3.9)
    assert abs(backprop[0]) > 1e4 * abs(es[0])
    np.testing.assert_allclose(combined[0], es[0], rtol=1e-2)
    np.testing.assert_allclose(combined[1], backprop[1], rtol=1e-3)
    assert abs(es[1] - backprop[1]) > 0.05
    assert np.isfinite(info.gradient_variance)


def test_where_the_run_is_smooth_backpropagation_leads(logistic_estimates):
    combined, backprop, es, _ = logistic_estimates(2.5)
    np.testing.assert_allclose(combined, backprop, atol=0.02 * np.min(abs(es - backprop)))


def _fixed(gradients, variances):
    """An estimator of four particles that gives these gradients and variances, [outer steps, weights], in turn."""

    def estimate(key, theta, state, data, axis_name=None):
        gradient, variance = data[0][state[0]], data[1][state[0]]
        no = jnp.zeros((), jnp.int32)
        info = Info(jnp.where(jnp.isnan(variance).all(), jnp.nan, 1.0), no, no, coordinate_variances=variance)
        return gradient, state + 1, info

    arrays = tuple(jnp.asarray(np.atleast_2d(x), jnp.float32) for x in (gradients, variances))
    return estimators.Estimator(lambda key, theta: jnp.zeros(4, jnp.int32), estimate, arrays, 4, "fixed")


def _run(parts, num_steps=1, **arguments):
    """Gradients and infos of outer steps."""
    estimator = inverse_variance(parts, **arguments)
    theta = jnp.zeros(parts[0].data[0].shape[1])
    outer_step = lambda state, key: estimator.estimate(key, theta, state, estimator.data)
    keys = jax.random.split(jax.random.key(0), num_steps)

    def body(state, key):
        gradient, state, info = outer_step(state, key)
        return state, (gradient, info)

    return jax.tree.map(np.asarray, jax.lax.scan(body, estimator.init(keys[0], theta), keys)[1])


NAN, INF = np.nan, np.inf


def test_numbers_that_are_not_and_variances_that_vanish():
    """Coordinates by turns: both plain; no variance in one, in both; zeros without variance in one, in both; NaN and
    infinity as gradient; infinity and NaN as variance; a variance whose inverse is beyond float32."""
    first = [[1, 1, 1, 0, 0, NAN, INF, 1, 1, 1], [1, 0, 0, 0, 0, 1, 1, INF, NAN, 1e-44]]
    other = [[5, 5, 5, 5, 0, 5, 5, 5, 5, 5], [3, 1, 0, 1, 0, 1, 1, 1, 1, 1]]
    gradients, info = _run([_fixed(*first), _fixed(*other)])
    np.testing.assert_allclose(gradients[0], [2, 1, 3, 5, 0, 5, 5, 5, 5, 1], rtol=1e-6)
    np.testing.assert_allclose(info.coordinate_variances[0], [0.75, 0, 0, 1, 0, 1, 1, 1, 1, 0], rtol=1e-6, atol=1e-7)


def test_an_estimate_without_finite_particles_has_no_weight():
    """At the second outer step the first estimator has none, at the third neither has any."""
    first = _fixed([[1.0], [0.0], [0.0], [1.0]], [[1.0], [NAN], [NAN], [1.0]])
    other = _fixed([[3.0], [3.0], [0.0], [3.0]], [[1.0], [1.0], [NAN], [1.0]])
    gradients, info = _run([first, other], 4)
    np.testing.assert_allclose(gradients[:, 0], [2, 3, 0, 2], rtol=1e-6)
    np.testing.assert_array_equal(np.isnan(info.gradient_variance), [False, False, True, False])
    np.testing.assert_array_equal(info.loss, [1, 1, NAN, 1])


def test_an_explosion_counts_at_once_and_is_forgotten_in_time():
    """Variance 1 each, but for outer step 5 of the first, when it gives 1e6 with a variance of 1e12."""
    steps = np.arange(300)[:, None]
    first = _fixed(np.where(steps == 5, 1e6, 1.0), np.where(steps == 5, 1e12, 1.0))
    gradients = _run([first, _fixed(np.full((300, 1), 3.0), np.ones((300, 1)))], 300)[0][:, 0]
    np.testing.assert_allclose(gradients[:5], 2, rtol=1e-6)
    np.testing.assert_allclose(gradients[5:50], 3, rtol=1e-4)
    np.testing.assert_allclose(gradients[-10:], 2, atol=0.3)
    assert np.all(np.diff(gradients[150:]) <= 0)


def _different_sizes():
    """Estimators of 4 and of 6 particles, for a theta of 5 weights: it is cut into 2 slices of 3."""

    def step(key, theta, state, data):
        return state, jnp.sum((theta["x"] - data) ** 2 * jax.random.exponential(key, (4,))) + theta["y"] ** 2

    problem = Problem(lambda key, theta, num_steps: (), step, np.array([3.0, -1.0, 0.5, 2.0], np.float32))
    size = {"unroll_length": 2, "horizon": truncation.constant(6)}
    parts = [
        estimators.truncated_backprop(problem, num_particles=4, **size),
        estimators.truncated_es(problem, num_particles=6, std=0.1, **size),
    ]
    return inverse_variance(parts, decay=0.5)


def test_shards_make_no_difference():
    estimator, theta = _different_sizes(), {"x": jnp.arange(4.0), "y": jnp.ones(())}
    assert estimator.num_particles == 2
    sharded = jax.shard_map(
        functools.partial(estimator.estimate, axis_name="shards"),
        mesh=jax.sharding.Mesh(np.asarray(jax.devices()[:2]), ("shards",)),
        in_specs=(jax.P(), jax.P(), jax.P("shards"), jax.P()),
        out_specs=(jax.P(), jax.P("shards"), jax.P()),
        check_vma=False,
    )

    @jax.jit
    def run(key):
        results = []
        for estimate in (estimator.estimate, sharded):
            state = estimator.init(key, theta)
            for index in range(2):
                gradient, state, info = estimate(jax.random.fold_in(key, index), theta, state, estimator.data)
            results.append((gradient, state, info))
        return results

    whole, shards = run(jax.random.key(0))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=1e-6), whole, shards)
    assert whole[1].variances.shape == (2, 2, 3)
    assert np.all(whole[1].steps == 2)
    assert int(whole[2].inner_steps) == 4 * 2 + 6 * 3 * 2


@pytest.mark.optax_promotion
def test_fit_and_resume(tmp_path):
    theta = {"x": np.zeros(4, np.float32), "y": np.ones((), np.float32)}

    def run(**arguments):
        arguments = {"num_steps": 60, "steps_per_dispatch": 20, "progress": False} | arguments
        return fit(_different_sizes(), theta, optax.adam(0.2), **arguments)

    whole = run()
    np.testing.assert_allclose(whole.theta["x"], [3, -1, 0.5, 2], atol=0.1)
    run(num_steps=20, run_dir=tmp_path)
    resumed = run(run_dir=tmp_path, resume=True)
    jax.tree.map(np.testing.assert_array_equal, resumed.theta, whole.theta)
    assert [row["loss"] for row in resumed.metrics] == [row["loss"] for row in whole.metrics]


def test_arguments_that_do_not_fit():
    part = _noisy(NOISES[0], 2)
    with pytest.raises(ValueError, match="combines two or more estimators, got 1"):
        inverse_variance([part])
    with pytest.raises(ValueError, match="estimator 1 has 1: give it at least 2"):
        inverse_variance([part, _noisy(NOISES[0], 1)])
    for decay in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\), got"):
            inverse_variance([part, part], decay=decay)

    def without_variances(*arguments, **names):
        gradient, state, info = part.estimate(*arguments, **names)
        return gradient, state, info._replace(coordinate_variances=())

    estimator = inverse_variance([part, part._replace(estimate=without_variances)])
    estimate = lambda key, theta: estimator.estimate(key, theta, estimator.init(key, theta), estimator.data)
    with pytest.raises(ValueError, match="the coordinate variances of all estimators, and number 1 gives none"):
        jax.eval_shape(estimate, jax.random.key(0), jnp.zeros(3))
