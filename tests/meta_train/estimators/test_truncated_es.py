"""Truncated ES: wrong by a known amount, and far from the true gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.estimators import truncated_es
from meta_train.unroll import truncation

HORIZON, THETA = 30, 0.5
TRUE_GRADIENT, TRUNCATED_GRADIENT = 2198.4937 / HORIZON, 511.7798 / HORIZON  # of the mean loss at theta = 0.5


def test_short_windows_give_their_known_wrong_answer(influence_balancing, successive_gradients, mean_and_error):
    """That of truncated backprop, as smoothing does not change the gradient of a quadratic loss."""
    estimator = truncated_es(
        influence_balancing,
        num_particles=100,
        unroll_length=5,
        horizon=truncation.constant(HORIZON),
        std=0.1,
        stagger=False,
    )
    mean, error = mean_and_error(successive_gradients(estimator, jnp.asarray(THETA), 6, 200).mean(axis=1))
    assert abs(mean - TRUNCATED_GRADIENT) < 4 * error
    assert error < 0.01 * TRUNCATED_GRADIENT
    assert abs(mean - TRUE_GRADIENT) > 100 * error


def test_windows_by_hand(influence_balancing):
    """One pair, windows of 7 steps, episodes of 10: both signs start a window from the state under theta itself."""
    with jax.enable_x64(True):
        theta, window, length, std = jnp.asarray(THETA, jnp.float64), 7, 10, 0.1
        estimator = truncated_es(
            influence_balancing,
            num_particles=1,
            unroll_length=window,
            horizon=truncation.constant(length),
            std=std,
            stagger=False,
        )
        estimate, state = jax.jit(estimator.estimate), jax.jit(estimator.init)(jax.random.key(0), theta)
        inner, time = influence_balancing.init(None, theta, length), 0
        for index in range(4):
            gradient, state, info = estimate(jax.random.key(index), theta, state, estimator.data)

            def losses(theta, inner=inner, time=time):
                total = 0.0
                for step in range(time, time + window):
                    if step > 0 and step % length == 0:
                        inner = influence_balancing.init(None, theta, length)
                    inner, loss = influence_balancing.step(None, theta, inner, influence_balancing.data)
                    total += loss / window
                return total, inner

            # The noise is not told; but the mean of the two signs' losses, quadratic in it, gives its square.
            curvature = jax.grad(jax.grad(lambda t: losses(t)[0]))(theta)
            square = 2 * (info.loss - losses(theta)[0]) / curvature
            np.testing.assert_allclose(gradient, jax.grad(lambda t: losses(t)[0])(theta) * square / std**2, rtol=1e-6)
            assert 1e-4 < square / std**2 < 16
            _, inner = losses(theta)
            time += window
            np.testing.assert_allclose(state.states[0], inner, rtol=1e-9)
            assert int(info.inner_steps) == 3 * window


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_particles": 0}, "num_particles must be at least 1, got 0"),
        ({"unroll_length": 31}, "between 1 and the shortest episode, 30 steps, got 31"),
        ({"std": 0.0}, "std must be positive, got 0.0"),
    ],
)
def test_arguments_out_of_range(influence_balancing, arguments, message):
    arguments = {"num_particles": 1, "unroll_length": 5, "horizon": truncation.constant(30)} | arguments
    with pytest.raises(ValueError, match=message):
        truncated_es(influence_balancing, **arguments)
