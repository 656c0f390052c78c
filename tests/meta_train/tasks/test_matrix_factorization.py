"""Matrix completion: observed entries are trained on, the others held out."""

import jax
import numpy as np
import pytest

from meta_train import tasks


def test_equals_numpy():
    task = tasks.matrix_factorization(shape=(6, 5), rank=2, observed=0.5, noise=0.3)
    config = task.sample(jax.random.key(0))
    matrix, noise, seen = map(np.asarray, config)
    params = task.init(jax.random.key(1), config)
    product = np.asarray(params["left"], np.float64) @ np.asarray(params["right"], np.float64).T
    np.testing.assert_allclose(
        task.loss(params, None, (), config), np.square(product - matrix - noise)[seen].mean(), rtol=1e-5
    )
    np.testing.assert_allclose(
        task.evaluate(params, None, (), config)["loss"], np.square(product - matrix)[~seen].mean(), rtol=1e-5
    )
    assert np.linalg.matrix_rank(matrix, tol=1e-4) == 2


def test_entries_have_the_variance_that_losses_are_normalized_by():
    task = tasks.matrix_factorization(shape=(8, 9), rank=3, observed=0.25, noise=0.5)
    matrix, noise, seen = jax.jit(jax.vmap(task.sample))(jax.random.split(jax.random.key(0), 1_000))
    np.testing.assert_allclose(np.var(matrix + noise), task.scale, rtol=0.05)
    assert task.scale == 1.25
    assert abs(np.mean(seen) - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 72_000)


@pytest.mark.parametrize("options", [{"rank": 0}, {"shape": (2, 9)}, {"observed": 1.0}, {"noise": -0.1}])
def test_bad_arguments(options):
    with pytest.raises(ValueError, match="a matrix factorization needs 1 <= rank <= min"):
        tasks.matrix_factorization(**options)
