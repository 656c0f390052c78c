"""Forward gradients: unbiased for the exact gradient, with the variance of a random direction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.estimators import forward_gradient
from meta_train.estimators import full_backprop
from meta_train.unroll import truncation

HORIZON, THETA = 30, 0.5
TRUE_GRADIENT, TRUNCATED_GRADIENT = 2198.4937 / HORIZON, 511.7798 / HORIZON  # of the mean loss at theta = 0.5


def test_unbiased_on_influence_balancing(influence_balancing):
    count = 50_000
    estimator = forward_gradient(influence_balancing, num_particles=count, horizon=truncation.constant(HORIZON))
    theta = jnp.asarray(THETA)
    state = estimator.init(jax.random.key(0), theta)
    gradient, _, info = jax.jit(estimator.estimate)(jax.random.key(1), theta, state, estimator.data)
    error = TRUE_GRADIENT * np.sqrt(2 / count)  # a particle gives v^2 g, of variance 2 g^2
    np.testing.assert_allclose(info.gradient_variance, error**2, rtol=0.05)
    assert abs(gradient - TRUE_GRADIENT) < 4 * error
    assert abs(gradient - TRUNCATED_GRADIENT) > 20 * error


def test_mean_and_variance_with_several_weights(linear_quadratic):
    """Without noise every episode is alike: the trace of a particle's covariance is (d + 1) |g|^2."""
    init = lambda key, theta, num_steps: jnp.array([1.0, -1.0]) * theta["b"]
    data = jax.tree.map(np.float32, (*linear_quadratic.data[:3], 0.0))
    problem, count = linear_quadratic._replace(init=init, data=data), 100_000
    theta = {"a": jnp.array([0.5, -1.0]), "b": jnp.asarray(0.7)}
    horizon = truncation.constant(4)
    estimator = forward_gradient(problem, num_particles=count, horizon=horizon)
    reference = full_backprop(problem, num_particles=1, horizon=horizon)
    run = lambda e: jax.jit(e.estimate)(jax.random.key(1), theta, e.init(jax.random.key(0), theta), e.data)
    (gradient, _, info), (expected, _, expected_info) = run(estimator), run(reference)
    flat = lambda tree: np.append(tree["a"], tree["b"])
    square = np.sum(flat(expected) ** 2)
    np.testing.assert_allclose(info.loss, expected_info.loss, rtol=1e-4)
    np.testing.assert_allclose(info.gradient_variance * count, 4 * square, rtol=0.03)
    np.testing.assert_allclose(flat(gradient), flat(expected), atol=4 * np.sqrt(2 * square / count))


def test_at_least_one_particle(linear_quadratic):
    with pytest.raises(ValueError, match="num_particles must be at least 1, got 0"):
        forward_gradient(linear_quadratic, num_particles=0, horizon=truncation.constant(3))
