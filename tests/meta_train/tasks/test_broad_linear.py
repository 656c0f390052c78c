"""Linear models have the condition number, the size and the minimum that an episode drew."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import tasks

TASK = tasks.broad_linear()


@functools.cache
def episodes():
    """300 episodes: config, first parameters, gradient of the loss on all rows, first loss, loss after a small step."""

    def run(key):
        sample_key, init_key, key = jax.random.split(key, 3)
        config = TASK.sample(sample_key)
        params = TASK.init(init_key, config)
        loss, gradient = jax.value_and_grad(lambda params: TASK.evaluate(params, key, (), config)["loss"])(params)
        return config, params, gradient, loss, TASK.loss(params, key, (), config) / config.scale

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 300)))


def config_of(wanted):
    config = episodes()[0]
    place = np.flatnonzero(wanted(config))[0]
    return jax.tree.map(lambda leaf: leaf[place], config)


ZEROS = {"x": jnp.zeros(64), "matrix": jnp.zeros((64, 8)), "second": jnp.zeros((8, 8))}


def value(x, config):
    return TASK.loss(ZEROS | {"x": x}, jax.random.key(0), (), config)


def outputs(x, config):
    """Outputs of all rows, from the derivative of the squared error with respect to the target."""
    of_target = jax.grad(lambda target: value(x, config._replace(target=target)))
    return -0.5 * config.target.shape[0] * of_target(jnp.zeros(config.target.shape))[:, 0]


@jax.jit
def facts(config):
    """The Hessian of the loss of a vector, and the rows of the design matrix."""
    return jax.hessian(value)(ZEROS["x"], config), jax.jacobian(outputs)(ZEROS["x"], config)


@pytest.mark.parametrize(("rotated", "whole"), [(False, False), (True, False), (True, True)])
def test_the_squared_error_of_a_vector_is_a_quadratic_of_the_drawn_curvature_and_its_minimum_is_the_target(
    rotated, whole
):
    config = config_of(lambda c: c.vector & c.squared & (c.rotated == rotated) & ((c.size == 64) == whole))
    config = config._replace(ridge=np.float32(0), batch=np.float32(1))
    hessian, rows = (np.asarray(each, np.float64) for each in facts(config))
    assert not hessian[int(config.size) :].any()
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian), np.sort(2 * config.curvature), atol=2e-5)
    assert (np.abs(hessian - np.diag(np.diag(hessian))).max() > 1e-3) == rotated
    np.testing.assert_allclose(rows.T @ rows / len(rows), hessian / 2, atol=1e-4)
    # The least loss is what least squares leaves.
    solution, *_ = np.linalg.lstsq(rows, config.target[:, 0], rcond=None)
    residual = np.square(rows @ solution - config.target[:, 0]).mean()
    assert float(jax.jit(value)(jnp.asarray(solution, jnp.float32), config)) == pytest.approx(residual, abs=1e-5)


def test_curvature_has_the_drawn_condition_number_and_a_mean_of_one():
    config, *_ = episodes()
    for curvature, size in zip(config.curvature, config.size, strict=True):
        used = np.sort(curvature[:size])
        assert not curvature[size:].any()
        assert used.mean() == pytest.approx(1, rel=1e-4)
        np.testing.assert_allclose(np.diff(np.log(used)), np.log(used[-1] / used[0]) / (size - 1), atol=1e-3)
    ratio = np.log10([c[:n].max() / c[:n].min() for c, n in zip(config.curvature, config.size, strict=True)])
    assert ratio.min() < 0.3
    assert 4.7 < ratio.max() <= 5.001
    assert np.median(ratio) == pytest.approx(2.5, abs=0.5)


def test_gradients_and_weights_are_zero_where_nothing_counts():
    config, params, gradient, *_ = episodes()
    kinds = {"x": config.vector, "second": config.product, "matrix": ~config.vector}
    inputs = np.arange(64) < config.size[:, None]
    outputs = np.arange(8) < config.num_outputs[:, None]
    for tree in (params, gradient):
        for name, used in kinds.items():
            assert not tree[name][~used].any()
            assert tree[name][used].reshape(used.sum(), -1).any(axis=1).all()
        assert not tree["x"][~inputs].any()
        assert not tree["matrix"][~inputs].any()
        plain = ~config.vector & ~config.product
        assert not np.moveaxis(tree["matrix"], 2, 1)[plain[:, None] & ~outputs].any()
        assert not np.moveaxis(tree["second"], 2, 1)[~outputs].any()


def test_first_losses_are_about_the_scale():
    config, *_, loss, on_batch = episodes()
    assert np.median(loss[config.squared]) == pytest.approx(1, abs=0.25)
    assert np.quantile(loss, 0.95) < 3
    exact = config.batch == 1
    np.testing.assert_allclose(loss[exact], on_batch[exact], rtol=1e-4)
    assert np.all(loss[~exact] != on_batch[~exact])
    assert exact.mean() == pytest.approx(0.5, abs=0.1)


def test_kinds_vary():
    config, *_ = episodes()
    for part in (config.vector, config.product, ~config.vector & ~config.product):
        assert part.mean() == pytest.approx(1 / 3, abs=0.1)
    assert config.squared.mean() == pytest.approx(0.5, abs=0.1)
    assert config.rotated.mean() == pytest.approx(0.5, abs=0.1)
    assert (config.ridge > 0).mean() == pytest.approx(1 / 3, abs=0.1)
    assert set(config.size) == set(range(8, 65, 8))
    assert set(config.num_outputs[~config.vector]) == set(range(2, 9))
    np.testing.assert_array_equal(config.num_outputs[config.vector], np.where(config.squared[config.vector], 1, 2))


def test_logistic_regression_is_that_of_two_classes():
    config = config_of(lambda c: c.vector & ~c.squared & (c.ridge == 0) & (c.size == 64) & ~c.rotated)
    x = jax.random.normal(jax.random.key(1), (64,))
    found = TASK.evaluate(ZEROS | {"x": x}, jax.random.key(0), (), config)["loss"] * config.scale
    squared = config._replace(squared=np.bool_(True), num_outputs=np.int32(1), batch=np.float32(1))
    z = np.asarray(jax.jit(outputs)(x, squared))
    sign = np.where(config.target[:, 0] >= config.target[:, 1], 1, -1)
    assert float(found) == pytest.approx(np.log1p(np.exp(-sign * z)).mean(), rel=1e-4)
