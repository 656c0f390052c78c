"""Quadratics against NumPy, their spectrum, and their mean loss at the start."""

import jax
import numpy as np
import pytest

from meta_train import tasks


def _start(task, key):
    sample_key, init_key = jax.random.split(key)
    config = task.sample(sample_key)
    return config, task.init(init_key, config)


def test_quadratic_equals_numpy():
    task = tasks.quadratic(size=4)
    config, params = _start(task, jax.random.key(0))
    matrix, target = (np.asarray(x, np.float64) for x in config)
    x = np.asarray(params["x"], np.float64)
    assert (matrix.shape, target.shape, x.shape) == ((4, 4), (4,), (4,))
    loss, grads = jax.value_and_grad(task.loss)(params, jax.random.key(1), (), config)
    residual = matrix @ x - target
    np.testing.assert_allclose(loss, np.sum(residual**2) / 4, rtol=1e-5)
    np.testing.assert_allclose(grads["x"], matrix.T @ residual / 2, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(task.evaluate(params, None, (), config)["loss"], loss)


@pytest.mark.parametrize(
    "task", [tasks.quadratic(size=3), tasks.ill_conditioned_quadratic(size=3, condition=(1.0, 10.0), noise=2.0)]
)
def test_they_are_normalised_by_their_expected_first_loss(task):
    def loss(key):
        config, params = _start(task, key)
        return task.loss(params, key, (), config)

    losses = np.asarray(jax.jit(jax.vmap(loss))(jax.random.split(jax.random.key(0), 10_000)))
    error = losses.std() / 100
    scale = task.scale
    assert scale == {"quadratic": 4.0, "quadratic-ill-conditioned": 6.0}[task.name]
    assert abs(losses.mean() - scale) < 4 * error
    assert error < 0.1


def test_the_hessian_has_the_condition_number_that_was_asked_for():
    task = tasks.ill_conditioned_quadratic(size=6, condition=(50.0, 50.0), noise=0.5)
    config, params = _start(task, jax.random.key(0))
    hessian = jax.hessian(lambda x: task.loss({"x": x}, jax.random.key(1), (), config))(params["x"])
    eigenvalues = np.linalg.eigvalsh(np.asarray(hessian, np.float64))
    expected = np.geomspace(1 / 50, 1, 6)
    np.testing.assert_allclose(eigenvalues, 2 * expected / expected.mean() / 6, rtol=1e-3)
    _, _, minimum = config
    np.testing.assert_allclose(task.evaluate({"x": minimum}, None, (), config)["loss"], 0, atol=1e-10)


def test_condition_numbers_and_rotations_are_drawn_for_each_episode():
    task = tasks.ill_conditioned_quadratic(size=2, condition=(1.0, 1e4))
    curvature, rotation, _ = jax.jit(jax.vmap(task.sample))(jax.random.split(jax.random.key(0), 2_000))
    exponents = np.log10(np.asarray(curvature[:, 0] / curvature[:, 1]))
    assert abs(exponents.mean() - 2) < 4 * np.sqrt(16 / 12 / 2_000)
    angles = np.arctan2(rotation[:, 0, 1], rotation[:, 0, 0])
    assert abs(np.cos(2 * angles).mean()) < 4 * np.sqrt(0.5 / 2_000)


def test_noise_moves_the_gradient_and_not_its_mean():
    task = tasks.ill_conditioned_quadratic(size=3, condition=(10.0, 10.0), noise=0.7)
    config, params = _start(task, jax.random.key(0))
    grads = jax.vmap(lambda key: jax.grad(task.loss)(params, key, (), config)["x"])(
        jax.random.split(jax.random.key(1), 4_000)
    )
    exact = jax.grad(lambda params: task.evaluate(params, None, (), config)["loss"])(params)["x"]
    error = np.std(grads, axis=0) / np.sqrt(4_000)
    assert np.all(error > 1e-3)
    assert np.all(abs(np.mean(grads, axis=0) - exact) < 4 * error)


def test_bad_arguments():
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        tasks.quadratic(size=0)
    with pytest.raises(ValueError, match=r"condition must be a pair 1 <= low <= high and noise >= 0, got \(0.5, 2.0\)"):
        tasks.ill_conditioned_quadratic(condition=(0.5, 2.0))
    with pytest.raises(ValueError, match="noise >= 0"):
        tasks.ill_conditioned_quadratic(noise=-1.0)
