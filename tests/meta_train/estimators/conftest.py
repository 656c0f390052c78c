"""Problems on which the estimators' right and wrong answers are known, and how to average many estimates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import Problem

SIZE, NUM_POSITIVE = 23, 10


def _init(key, theta, num_steps):
    del key, num_steps
    return jnp.ones(SIZE, theta.dtype)


def _step(key, theta, state, data):
    del key
    matrix, signs = (array.astype(theta.dtype) for array in data)
    state = matrix @ state + theta * signs
    return state, 0.5 * (state[0] - 1) ** 2


@pytest.fixture
def influence_balancing():
    """s' = A s + theta sigma with loss (s'_1 - 1)^2 / 2, in the dtype of theta.

    Raising theta pushes the first ten components up at once and, through the thirteen others, down later on. An
    estimator that sees a short window only gets the sign wrong. Vicol et al. 2021, https://arxiv.org/abs/2112.13835
    """
    matrix = 0.5 * (np.eye(SIZE) + np.eye(SIZE, k=1))
    signs = np.where(np.arange(SIZE) < NUM_POSITIVE, 1.0, -1.0)
    return Problem(_init, _step, (matrix, signs), "influence-balancing")


def _successive_gradients(estimator, theta, num_windows, num_batches):
    def batch(key):
        init_key, key = jax.random.split(key)

        def window(state, key):
            gradient, state, _ = estimator.estimate(key, theta, state, estimator.data)
            return state, gradient

        return jax.lax.scan(window, estimator.init(init_key, theta), jax.random.split(key, num_windows))[1]

    keys = jax.random.split(jax.random.key(0), num_batches)
    return jax.tree.map(lambda x: np.asarray(x, np.float64), jax.jit(lambda keys: jax.lax.map(batch, keys))(keys))


@pytest.fixture
def successive_gradients():
    """`(estimator, theta, num_windows, num_batches)`: gradients of successive windows, leaves [batches, windows, …],
    each batch from particles of its own."""
    return _successive_gradients


@pytest.fixture
def mean_and_error():
    """The mean of samples over their leading axis, and its standard error."""
    return lambda samples: (samples.mean(axis=0), samples.std(axis=0, ddof=1) / np.sqrt(len(samples)))


def _quadratic_step(key, theta, state, data):
    matrix, inputs, curvature, noise = data
    weights = jnp.concatenate([theta["a"], theta["b"][None]])
    state = matrix @ state + inputs @ weights + noise * jax.random.normal(key, state.shape, state.dtype)
    return state, 0.5 * state @ curvature @ state


def _quadratic_init(key, theta, num_steps):
    return jnp.array([1.0, -1.0], theta["a"].dtype) * theta["b"] + jax.random.normal(key, (2,), theta["a"].dtype)


@pytest.fixture
def linear_quadratic():
    """s' = A s + B theta + noise from s = (1, -1) theta_b + noise, with loss s'Hs' / 2. In float64."""
    matrix = np.array([[0.9, 0.3], [-0.2, 0.8]])
    inputs = np.array([[1.0, -0.5, 0.2], [0.3, 0.4, -1.0]])
    curvature = np.array([[2.0, 0.3], [0.3, 1.0]])
    return Problem(_quadratic_init, _quadratic_step, (matrix, inputs, curvature, np.float64(0.1)), "linear-quadratic")


@pytest.fixture
def quick_to_compile():
    """Programs that compile in two thirds of the time and run more slowly."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
