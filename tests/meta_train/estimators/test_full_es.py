"""Full ES: unbiased over whole episodes of one length or of several."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import Problem
from meta_train.estimators import full_es
from meta_train.unroll import truncation

HORIZON, THETA = 30, 0.5
TRUE_GRADIENT = 2198.4937 / HORIZON  # of the mean loss at theta = 0.5


def test_unbiased_on_influence_balancing(influence_balancing, successive_gradients, mean_and_error):
    estimator = full_es(influence_balancing, num_particles=100, horizon=truncation.constant(HORIZON), std=0.1)
    mean, error = mean_and_error(successive_gradients(estimator, jnp.asarray(THETA), 1, 200)[:, 0])
    assert abs(mean - TRUE_GRADIENT) < 4 * error
    assert error < 0.015 * TRUE_GRADIENT


def test_episodes_of_several_lengths(influence_balancing):
    """Against the derivative for the length drawn. The pair's mean loss, quadratic in the noise, tells the noise."""
    lengths, std = range(4, 8), 0.1
    with jax.enable_x64(True):
        theta = jnp.asarray(THETA, jnp.float64)
        problem = influence_balancing._replace(init=lambda key, theta, num_steps: jnp.full(23, num_steps, theta.dtype))
        estimator = full_es(problem, num_particles=1, horizon=truncation.log_uniform(4, 7), std=std)
        estimate, state = jax.jit(estimator.estimate), jax.jit(estimator.init)(jax.random.key(0), theta)

        @functools.partial(jax.jit, static_argnums=1)
        def derivatives(theta, length):
            slope = jax.value_and_grad(mean_loss)
            return *slope(theta, length), jax.grad(jax.grad(mean_loss))(theta, length)

        def mean_loss(theta, length):
            inner, total = jnp.ones(23) * length, 0.0
            for _ in range(length):
                inner, loss = problem.step(None, theta, inner, problem.data)
                total += loss / length
            return total

        seen = set()
        for index in range(12):
            gradient, state, info = estimate(jax.random.key(index), theta, state, estimator.data)
            length = int(info.inner_steps) // 2
            seen.add(length)
            assert length in lengths
            np.testing.assert_array_equal(np.isnan(info.step_losses), np.arange(7) >= length)
            np.testing.assert_allclose(np.nanmean(info.step_losses), info.loss, rtol=1e-12)
            loss, slope, curvature = derivatives(theta, length)
            square = 2 * (info.loss - loss) / curvature  # of the noise, as in a quadratic
            np.testing.assert_allclose(gradient, slope * square / std**2, rtol=1e-6)
        assert len(seen) > 2


def test_variance_on_a_quadratic():
    """On z'Hz / 2 a pair gives e (e'g) for normal e and g = Hz: the trace of its covariance is (d + 1) |g|^2."""
    hessian = jnp.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 3.0]])
    problem = Problem(lambda key, theta, num_steps: (), lambda key, z, s, data: (s, 0.5 * z @ data @ z), hessian)
    count, theta = 100_000, jnp.array([1.0, -2.0, 0.5])
    estimator = full_es(problem, num_particles=count, horizon=truncation.constant(2), std=0.5)
    state = estimator.init(jax.random.key(0), theta)
    gradient, _, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
    expected = hessian @ theta
    np.testing.assert_allclose(info.gradient_variance * count, 4 * jnp.sum(expected**2), rtol=0.03)
    np.testing.assert_allclose(gradient, expected, atol=4 * np.sqrt(2 * np.sum(expected**2) / count))


def test_signs_of_differences_give_the_direction_alone():
    """Where the loss is linear: E[e sign(e'g)] = std sqrt(2 / pi) g / |g|, over 2 std^2, whatever the loss's scale."""
    count, std = 100_000, 0.5
    problem = Problem(lambda key, theta, num_steps: (), lambda key, theta, s, data: (s, data @ theta))
    horizon, theta = truncation.constant(2), jnp.zeros(2)
    estimator = full_es(problem, num_particles=count, horizon=horizon, std=std, shaping=jnp.sign)
    state, estimate = estimator.init(jax.random.key(0), theta), jax.jit(estimator.estimate)
    for scale in (1.0, 1e4):
        gradient, _, _ = estimate(jax.random.key(1), theta, state, scale * jnp.array([3.0, -4.0]))
        expected = np.sqrt(2 / np.pi) * np.array([0.6, -0.8]) / (2 * std)
        np.testing.assert_allclose(gradient, expected, atol=4 / (2 * std * np.sqrt(count)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_particles": 0}, "num_particles must be at least 1, got 0"),
        ({"std": -0.1}, "std must be positive, got -0.1"),
    ],
)
def test_arguments_out_of_range(influence_balancing, arguments, message):
    arguments = {"num_particles": 1, "horizon": truncation.constant(30)} | arguments
    with pytest.raises(ValueError, match=message):
        full_es(influence_balancing, **arguments)
