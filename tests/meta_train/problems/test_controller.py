"""Independent choices, and exact means over them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import problems

CONTROLLER = problems.independent_controller([2, 3])
THETA = jnp.array([[0.5, -0.5, 9.0], [0.0, 1.0, -1.0]])  # 9 belongs to no option


def _softmax(x):
    return np.exp(x) / np.exp(x).sum()


def test_probabilities_are_products_and_samples_follow_them():
    table = np.outer(_softmax([0.5, -0.5]), _softmax([0.0, 1.0, -1.0]))
    choices = problems.every_choice(CONTROLLER)
    found = jax.vmap(lambda choices: CONTROLLER.log_probability(THETA, choices))(jnp.asarray(choices))
    np.testing.assert_allclose(np.exp(found).reshape(2, 3), table, rtol=1e-5)
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = np.asarray(jax.vmap(lambda key: CONTROLLER.sample(key, THETA))(keys))
    share = np.histogram2d(*drawn.T, bins=[np.arange(3), np.arange(4)])[0] / len(keys)
    np.testing.assert_allclose(share, table, atol=4 * 0.5 / np.sqrt(len(keys)))


def test_the_expected_loss_and_its_gradient():
    losses = np.arange(6.0).reshape(2, 3)
    p, q = _softmax([0.5, -0.5]), _softmax([0.0, 1.0, -1.0])
    value, gradient = jax.value_and_grad(lambda theta: problems.expected_loss(CONTROLLER, theta, jnp.asarray(losses)))(
        THETA
    )
    assert float(value) == pytest.approx(p @ losses @ q, rel=1e-5)
    by_first = losses @ q
    np.testing.assert_allclose(gradient[0], [*(p * (by_first - p @ by_first)), 0], rtol=1e-4, atol=1e-6)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"at least one option each, got \[2, 0\]"):
        problems.independent_controller([2, 0])
    with pytest.raises(ValueError, match=r"got \[\]"):
        problems.independent_controller([])
    with pytest.raises(ValueError, match=r"losses need the shape \(2, 3\), the options by place, got \(6,\)"):
        problems.expected_loss(CONTROLLER, THETA, jnp.zeros(6))
