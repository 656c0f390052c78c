"""GPES: unbiased whatever the period, with the variance of theory, and perturbations that change when they must."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import Problem
from meta_train.estimators import gpes
from meta_train.unroll import truncation

HORIZON, THETA = 30, 0.5
TRUE_GRADIENT, TRUNCATED_GRADIENT = 2198.4937 / HORIZON, 511.7798 / HORIZON  # of the mean loss at theta = 0.5


@pytest.mark.parametrize(
    ("noise_period", "unroll_length", "stagger", "skipped", "used"),
    [
        (15, 5, True, 6, 6),  # the first episode is cut short
        (14, 7, False, 0, 30),  # seven episodes in thirty windows, of which five hold the end of one inside
    ],
)
def test_unbiased_on_influence_balancing(
    influence_balancing, successive_gradients, mean_and_error, noise_period, unroll_length, stagger, skipped, used
):
    estimator = gpes(
        influence_balancing,
        num_particles=100,
        unroll_length=unroll_length,
        noise_period=noise_period,
        horizon=truncation.constant(HORIZON),
        std=0.1,
        stagger=stagger,
    )
    samples = successive_gradients(estimator, jnp.asarray(THETA), skipped + used, 200)[:, skipped:].mean(axis=1)
    mean, error = mean_and_error(samples)
    assert abs(mean - TRUE_GRADIENT) < 4 * error
    assert error < 0.015 * TRUE_GRADIENT
    assert abs(mean - TRUNCATED_GRADIENT) > 20 * error


@pytest.mark.parametrize(("noise_period", "windows_kept"), [(8, 2), (None, 100)])
def test_windows_by_hand(influence_balancing, quick_to_compile, noise_period, windows_kept):
    """One pair, windows of 4 steps, episodes of 14, which end inside of windows 4 and 11 and after window 7.

    A perturbation lasts for two windows, or for the episode. One that began inside of a window lasts for that window's
    rest and one more.
    """
    with jax.enable_x64(True):
        theta, window, length, std = jnp.asarray(THETA, jnp.float64), 4, 14, 0.1
        estimator = gpes(
            influence_balancing,
            num_particles=1,
            unroll_length=window,
            noise_period=noise_period,
            horizon=truncation.constant(length),
            std=std,
            stagger=False,
        )
        estimate, state = jax.jit(estimator.estimate), jax.jit(estimator.init)(jax.random.key(0), theta)
        in_use = lambda state: float(state.noise[0] if noise_period else state.accumulator[0])
        noise, accumulator, age = in_use(state), in_use(state), 0
        inner, time, perturbations = [influence_balancing.init(None, theta, length)] * 2, 0, {noise}
        for index in range(11):
            gradient, state, info = estimate(jax.random.key(index), theta, state, estimator.data)
            drawn = in_use(state)  # where a perturbation begins in this window
            if age == windows_kept:
                noise, accumulator, age = drawn, accumulator + drawn, 0
                perturbations.add(noise)
            expected, losses = 0.0, []
            for _ in range(window):
                if time == length:
                    inner, time = [influence_balancing.init(None, theta, length)] * 2, 0
                    noise, accumulator, age = drawn, drawn, 0
                    perturbations.add(noise)
                pair = [
                    influence_balancing.step(None, theta + sign * noise, s, influence_balancing.data)
                    for sign, s in zip((1, -1), inner, strict=True)
                ]
                inner, (positive, negative) = zip(*pair, strict=True)
                expected += accumulator * (positive - negative) / (2 * std**2 * window)
                losses.append((positive + negative) / 2)
                time += 1
            age += 1
            np.testing.assert_allclose(gradient, expected, rtol=1e-9)
            np.testing.assert_allclose(info.step_losses, losses, rtol=1e-9)
            np.testing.assert_allclose(state.states[0], inner, rtol=1e-9)
            np.testing.assert_allclose(state.accumulator[0], accumulator, rtol=1e-12)
        assert len(perturbations) == (7 if noise_period else 4)


@pytest.mark.parametrize("noise_period", [1, 2, None])
def test_variance_of_an_episode(noise_period, quick_to_compile):
    """With G_j' theta added to the state in window j of 4, and the state as the loss at the end, perturbations of b
    blocks of windows give the variance d b sum_B |G_B|^2 + |G|^2, where G_B is the sum over a block and G that of all;
    one window a block is PES, the whole episode in one NRES, (d + 1) |G|^2."""
    jacobian = np.array([[1.0, 0.5, -1.0], [0.5, -1.0, 0.0], [2.0, 1.0, 1.0], [-1.0, 0.5, 1.5]], np.float32)
    steps, size = jacobian.shape

    def step(key, theta, state, data):
        total, time = state
        total = total + data[time] @ theta
        return (total, time + 1), jnp.where(time == steps - 1, total, 0.0)

    start = lambda key, theta, num_steps: (jnp.zeros(()), jnp.asarray(0, jnp.int32))
    problem = Problem(start, step, jnp.asarray(jacobian))
    count = 100_000
    estimator = gpes(
        problem,
        num_particles=count,
        unroll_length=1,
        noise_period=noise_period,
        horizon=truncation.constant(steps),
        std=0.5,
        stagger=False,
    )

    @jax.jit
    def episode(key):
        theta = jnp.array([1.0, 2.0, 3.0])
        window = lambda state, key: estimator.estimate(key, theta, state, estimator.data)[1:]
        state = estimator.init(key, theta)
        state, infos = jax.lax.scan(window, state, jax.random.split(key, steps - 1))
        gradient, _, info = estimator.estimate(jax.random.key(1), theta, state, estimator.data)
        return gradient, info, infos.gradient_variance

    gradient, info, before = episode(jax.random.key(0))
    blocks = jacobian.reshape(-1, noise_period or steps, size).sum(axis=1)
    total = jacobian.sum(axis=0)
    expected = size * len(blocks) * np.sum(blocks**2) + np.sum(total**2)
    np.testing.assert_array_equal(before, 0.0)
    np.testing.assert_allclose(info.gradient_variance * count, expected, rtol=0.03)
    np.testing.assert_allclose(gradient, total, atol=4 * np.sqrt(expected / count))
    np.testing.assert_allclose(info.snr, np.sum(gradient**2) / info.gradient_variance, rtol=1e-5)


def test_the_parts_of_a_window_are_shaped_apart(influence_balancing, quick_to_compile):
    """Windows of 7 steps, episodes of 10. Doubling differences doubles the gradient; of their signs, only a window in
    which an episode ends brings two."""
    make = lambda shaping: gpes(
        influence_balancing,
        num_particles=1,
        unroll_length=7,
        noise_period=14,
        horizon=truncation.constant(10),
        std=0.5,
        stagger=False,
        shaping=shaping,
    )

    @jax.jit
    def run(key):
        def window(state, key):
            gradients = []
            for shaping in (None, lambda differences: 2 * differences, jnp.sign):
                gradient, after, _ = make(shaping).estimate(key, theta, state, influence_balancing.data)
                gradients.append(gradient)
            return after, (gradients, state.accumulator[0], after.noise[0])

        theta = jnp.asarray(THETA)
        return jax.lax.scan(window, make(None).init(key, theta), jax.random.split(key, 2))[1]

    (plain, doubled, signs), before, drawn = run(jax.random.key(0))
    np.testing.assert_allclose(doubled, 2 * plain, rtol=1e-5)
    multiples = signs * 2 * 0.5**2
    np.testing.assert_allclose(abs(multiples[0]), abs(drawn[0]), rtol=1e-5)
    sums = [abs(before[1] + sign * drawn[1]) for sign in (1, -1)]
    assert np.min(np.abs(abs(multiples[1]) - np.array(sums))) < 1e-5


@pytest.mark.parametrize("noise_period", [0, 7, -5, 12])
def test_a_perturbation_lasts_whole_windows(influence_balancing, noise_period):
    with pytest.raises(ValueError, match=f"a multiple of unroll_length=5, got {noise_period}"):
        gpes(
            influence_balancing,
            num_particles=1,
            unroll_length=5,
            noise_period=noise_period,
            horizon=truncation.constant(30),
        )
