"""PES: unbiased whatever the window, where the same windows without its accumulator are wrong by a known amount."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import Problem
from meta_train.estimators import pes
from meta_train.unroll import truncation

HORIZON, THETA = 30, 0.5
TRUE_GRADIENT, TRUNCATED_GRADIENT = 2198.4937 / HORIZON, 511.7798 / HORIZON  # of the mean loss at theta = 0.5


def test_the_known_answers_are_derivatives(influence_balancing):
    with jax.enable_x64(True):

        def mean_loss(theta, window):
            state, losses = influence_balancing.init(None, theta, HORIZON), []
            for step in range(HORIZON):
                state = jax.lax.stop_gradient(state) if step % window == 0 else state
                state, loss = influence_balancing.step(None, theta, state, influence_balancing.data)
                losses.append(loss)
            return sum(losses) / HORIZON

        theta = jnp.asarray(THETA, jnp.float64)
        np.testing.assert_allclose(jax.grad(mean_loss)(theta, HORIZON), TRUE_GRADIENT, rtol=1e-6)
        np.testing.assert_allclose(jax.grad(mean_loss)(theta, 5), TRUNCATED_GRADIENT, rtol=1e-6)


@pytest.mark.parametrize(
    ("unroll_length", "stagger", "skipped", "used"),
    [
        (5, False, 0, 6),  # one episode in six windows
        (7, False, 0, 30),  # seven episodes in thirty windows, of which five hold the end of one inside
        (HORIZON, False, 0, 1),
        (5, True, 6, 6),  # the first episode is cut short
        (7, True, 5, 7),
    ],
)
def test_unbiased_on_influence_balancing(
    influence_balancing, successive_gradients, mean_and_error, unroll_length, stagger, skipped, used
):
    estimator = pes(
        influence_balancing,
        num_particles=100,
        unroll_length=unroll_length,
        horizon=truncation.constant(HORIZON),
        std=0.1,
        stagger=stagger,
    )
    samples = successive_gradients(estimator, jnp.asarray(THETA), skipped + used, 400)[:, skipped:].mean(axis=1)
    mean, error = mean_and_error(samples)
    assert abs(mean - TRUE_GRADIENT) < 4 * error
    assert error < 0.01 * TRUE_GRADIENT
    assert abs(mean - TRUNCATED_GRADIENT) > 20 * error


def test_windows_by_hand(influence_balancing):
    """One pair, windows of 7 steps, episodes of 10: the ends inside of windows 1 and 2 divide their losses."""
    with jax.enable_x64(True):
        theta, window, length = jnp.asarray(THETA, jnp.float64), 7, 10
        estimator = pes(
            influence_balancing,
            num_particles=1,
            unroll_length=window,
            horizon=truncation.constant(length),
            std=0.1,
            stagger=False,
        )
        estimate, state = jax.jit(estimator.estimate), jax.jit(estimator.init)(jax.random.key(0), theta)
        inner, accumulator = [influence_balancing.init(None, theta, length)] * 2, 0.0
        for index in range(4):
            gradient, state, info = estimate(jax.random.key(index), theta, state, estimator.data)
            ends = index in (1, 2)
            noise = state.accumulator[0] - (0.0 if ends else accumulator)
            expected, losses = 0.0, []
            for step in range(index * window, (index + 1) * window):
                if step > 0 and step % length == 0:
                    inner, accumulator = [influence_balancing.init(None, theta, length)] * 2, 0.0
                pair = [
                    influence_balancing.step(None, theta + sign * noise, s, influence_balancing.data)
                    for sign, s in zip((1, -1), inner, strict=True)
                ]
                inner, (positive, negative) = zip(*pair, strict=True)
                expected += (accumulator + noise) * (positive - negative) / (2 * 0.1**2 * window)
                losses += [positive, negative]
            accumulator += noise
            np.testing.assert_allclose(gradient, expected, rtol=1e-9)
            np.testing.assert_allclose(info.loss, np.mean(losses), rtol=1e-9)
            np.testing.assert_allclose(state.states[0], inner, rtol=1e-9)


def test_one_window_for_a_whole_episode_is_antithetic_evolution_strategies(successive_gradients, mean_and_error):
    """On z'Hz / 2 a pair gives e (e'g) for normal e and g = Hz: mean g, variance |g|^2 + g_i^2, whatever the std."""
    hessian = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 3.0]], np.float32)
    join = lambda theta: jnp.concatenate([theta["a"], theta["b"][None]])

    def step(key, theta, state, data):
        return state, 0.5 * join(theta) @ data @ join(theta)

    problem = Problem(init=lambda key, theta, num_steps: (), step=step, data=hessian)
    estimator = pes(problem, num_particles=1, unroll_length=1, horizon=truncation.constant(1), std=0.5)
    theta = {"a": jnp.array([1.0, -2.0]), "b": jnp.asarray(0.5)}
    gradients = successive_gradients(estimator, theta, 1, 20_000)
    samples = np.concatenate([gradients["a"][:, 0], gradients["b"]], axis=1)
    expected = hessian @ join(theta)

    mean, error = mean_and_error(samples)
    np.testing.assert_array_less(abs(mean - expected), 4 * error)
    variance, error = mean_and_error((samples - mean) ** 2)
    expected_variance = np.sum(expected**2) + expected**2
    np.testing.assert_array_less(abs(variance - expected_variance), 4 * error)
    np.testing.assert_array_less(error, 0.04 * expected_variance)


def test_both_signs_see_the_same_draws():
    """Where theta has no influence the gradient is exactly zero, however noisy steps and first states are."""

    def step(key, theta, state, data):
        state = 0.9 * state + jax.random.normal(key)
        return state, state + data

    problem = Problem(lambda key, theta, num_steps: 10 * jax.random.normal(key), step, np.float32(3.0))
    estimator = pes(problem, num_particles=4, unroll_length=7, horizon=truncation.constant(10))
    theta = jnp.ones(2)
    estimate, state = jax.jit(estimator.estimate), jax.jit(estimator.init)(jax.random.key(0), theta)
    assert len(set(np.asarray(state.states[:, 0]).tolist())) == 4  # no two pairs see the same
    means = []
    for window in range(4):
        gradient, state, info = estimate(jax.random.key(window), theta, state, estimator.data)
        np.testing.assert_array_equal(gradient, np.zeros(2))
        means.append(float(info.loss))
    assert len(set(means)) == 4
    assert len(set(np.asarray(state.states[:, 0]).tolist())) == 4


@functools.cache  # it compiles once for several tests
def _drift():
    """Four pairs whose episodes go differently: state and loss move by theta and noise."""

    def step(key, theta, state, data):
        state = state + theta * jax.random.normal(key)
        return state, state**2

    problem = Problem(lambda key, theta, num_steps: jax.random.normal(key), step)
    estimator = pes(problem, num_particles=4, unroll_length=3, horizon=truncation.constant(9), std=0.1, stagger=False)
    return jax.jit(estimator.init)(jax.random.key(0), jnp.asarray(0.5)), jax.jit(estimator.estimate)


def test_a_pair_that_diverges_is_left_out_and_begins_anew():
    state, estimate = _drift()
    theta, keys = jnp.asarray(0.5), jax.random.split(jax.random.key(1), 3)
    _, state, _ = estimate(keys[0], theta, state, ())
    poisoned = state._replace(states=state.states.at[1, 0].set(jnp.nan))
    healthy = jax.tree.map(lambda x: x[jnp.array([0, 2, 3])], state)

    _, state, _ = estimate(keys[1], theta, state, ())
    expected, healthy, expected_info = estimate(keys[1], theta, healthy, ())
    gradient, poisoned, info = estimate(keys[1], theta, poisoned, ())
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
    np.testing.assert_allclose(info.loss, expected_info.loss, rtol=1e-5)
    assert (int(expected_info.dropped), int(info.dropped)) == (0, 1)
    assert int(info.inner_steps) == 2 * 4 * 3

    noise = state.accumulator
    _, state, _ = estimate(keys[2], theta, state, ())
    noise = state.accumulator - noise
    gradient, poisoned, info = estimate(keys[2], theta, poisoned, ())
    assert int(info.dropped) == 0
    np.testing.assert_array_equal(poisoned.clock.step, [9, 3, 9, 9])
    assert np.isfinite(gradient)
    assert np.all(np.isfinite(poisoned.states))
    np.testing.assert_allclose(poisoned.accumulator[1], noise[1], rtol=1e-5)
    np.testing.assert_array_equal(poisoned.accumulator[2:], state.accumulator[2:])


def test_pairs_that_all_diverge_give_a_zero_gradient():
    state, estimate = _drift()
    theta = jnp.asarray(0.5)
    _, state, _ = estimate(jax.random.key(0), theta, state, ())
    broken = state._replace(states=jnp.full_like(state.states, jnp.inf))
    gradient, state, info = estimate(jax.random.key(1), theta, broken, ())
    assert (float(gradient), int(info.dropped)) == (0.0, 4)
    assert np.isnan(info.loss)
    gradient, _, info = estimate(jax.random.key(2), theta, state, ())
    assert int(info.dropped) == 0
    assert gradient != 0


def test_accumulator_and_clock_through_an_episode():
    """Episodes of 9 steps in windows of 3: the accumulator adds up the noise, and begins anew at the fourth."""
    state, estimate = _drift()
    theta, key = jnp.asarray(0.5), jax.random.key(1)
    accumulators, steps = [], []
    for _ in range(4):  # one key, so that every window draws the same noise
        _, state, _ = estimate(key, theta, state, ())
        accumulators.append(np.asarray(state.accumulator))
        steps.append(int(state.clock.step[0]))
    assert steps == [3, 6, 9, 3]
    np.testing.assert_allclose(accumulators, accumulators[0] * np.array([[1], [2], [3], [1]]), rtol=1e-6)
    assert len(set(accumulators[0].tolist())) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_particles": 0}, "num_particles must be at least 1, got 0"),
        ({"unroll_length": 0}, "between 1 and the shortest episode, 30 steps, got 0"),
        ({"unroll_length": 31}, "between 1 and the shortest episode, 30 steps, got 31"),
        ({"std": 0.0}, "std must be positive, got 0.0"),
        ({"std": -0.1}, "std must be positive, got -0.1"),
        ({"std": float("nan")}, "std must be positive, got nan"),
    ],
)
def test_arguments_out_of_range(influence_balancing, arguments, message):
    arguments = {"num_particles": 1, "unroll_length": 5, "horizon": truncation.constant(30)} | arguments
    with pytest.raises(ValueError, match=message):
        pes(influence_balancing, **arguments)
