"""The controller whose choices depend on those before."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import problems


def test_probabilities_sum_to_one_depend_on_the_choice_before_and_samples_follow_them():
    controller = problems.lstm_controller([2, 3], hidden_size=4)
    theta = jax.tree.map(lambda x: 20 * x, controller.init(jax.random.key(0)))
    choices = jnp.asarray(problems.every_choice(controller))
    table = np.exp(jax.vmap(lambda choices: controller.log_probability(theta, choices))(choices)).reshape(2, 3)
    assert table.sum() == pytest.approx(1, rel=1e-5)
    of_second = table / table.sum(axis=1, keepdims=True)
    assert np.max(np.abs(of_second[0] - of_second[1])) > 0.05
    keys = jax.random.split(jax.random.key(1), 20_000)
    drawn = np.asarray(jax.vmap(lambda key: controller.sample(key, theta))(keys))
    share = np.histogram2d(*drawn.T, bins=[np.arange(3), np.arange(4)])[0] / len(keys)
    np.testing.assert_allclose(share, table, atol=4 * 0.5 / np.sqrt(len(keys)))


def test_bad_size():
    with pytest.raises(ValueError, match="hidden_size must be at least 1, got 0"):
        problems.lstm_controller([2], hidden_size=0)
