"""The network of data set distillation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.problems import instance_norm_network


def test_an_example_does_not_see_the_others_nor_brightness_and_contrast():
    network = instance_norm_network(3, channels=2, num_blocks=1)
    pictures = jax.random.normal(jax.random.key(0), (3, 5, 4, 1))
    params = network.init(jax.random.key(1), pictures)
    outputs = network.apply(params, pictures)
    assert params[network.head]["w"].shape == (2 * 2 * 2, 3)
    np.testing.assert_allclose(network.apply(params, pictures[1:2]), outputs[1:2], atol=1e-5)
    np.testing.assert_allclose(network.apply(params, 3 * pictures), outputs, atol=1e-3)
    assert np.ptp(outputs, axis=0).min() > 1e-3


def test_bad_arguments():
    with pytest.raises(ValueError, match="channels must be at least 1, got 0"):
        instance_norm_network(10, channels=0)
    with pytest.raises(ValueError, match=r"needs pictures, .* got \(2, 64\): use few_shot.perceptron"):
        instance_norm_network(10).init(jax.random.key(0), jnp.zeros((2, 64)))
