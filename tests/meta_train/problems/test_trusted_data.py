"""Trusted examples, and wrong labels."""

import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import data
from meta_train import problems
from meta_train.few_shot import perceptron

DIGITS = data.load("digits", size=4)


def test_the_share_of_wrong_labels_is_exact_and_trusted_ones_are_right():
    noisy = problems.trusted_data(DIGITS, num_trusted=137, noise=0.4, seed=3)
    clean = problems.trusted_data(DIGITS, num_trusted=137, seed=3)
    assert np.sum(noisy.train_y != clean.train_y) == 0.4 * 1300
    assert set(noisy.train_y) == set(range(10))
    np.testing.assert_array_equal(noisy.trusted_y, clean.trusted_y)
    key = lambda x, y: sorted((*example.ravel().tolist(), int(label)) for example, label in zip(x, y, strict=True))
    both = key(np.concatenate([clean.train_x, clean.trusted_x]), np.concatenate([clean.train_y, clean.trusted_y]))
    assert both == key(DIGITS.train_x, DIGITS.train_y)
    other = problems.trusted_data(DIGITS, num_trusted=137, seed=4)
    assert np.any(other.trusted_x != clean.trusted_x)


def test_weights_that_are_all_zero_give_no_loss():
    assert problems.weighted_mean(jnp.ones(3), jnp.zeros(3)) == 0


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_trusted must lie between 1 and 1436, got 1437"):
        problems.trusted_data(DIGITS, num_trusted=1437)
    with pytest.raises(ValueError, match=r"noise must lie between 0 and 1, got 1\.5"):
        problems.trusted_data(DIGITS, num_trusted=1, noise=1.5)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        problems.data_weights(problems.trusted_data(DIGITS, num_trusted=1), perceptron(10, ()), batch_size=0)
