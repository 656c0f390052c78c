"""The scale on which tasks compare."""

import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.tasks.base import Task
from meta_train.tasks.base import log_normalizer
from meta_train.tasks.base import normalized_loss
from meta_train.tasks.base import power_normalizer


def test_log_normalizer():
    losses = np.array([0.0, 1.0, 2.0, 19.9, 20.1, np.inf, np.nan], np.float32)
    expected = np.log([0.02, 0.52, 1.02, 9.97, 10.02, 10.02, 10.02])
    np.testing.assert_allclose(log_normalizer(2.0)(losses), expected, rtol=1e-5)


def test_a_task_made_by_hand_needs_neither_loss_scale_nor_scale():
    task = Task("mine", (), lambda key: (), lambda *_: 0.0, lambda *_: 6.0, lambda *_: {}, log_normalizer(2.0))
    assert task.scale == 1.0
    np.testing.assert_allclose(normalized_loss(task, jnp.float32(6.0), ()), np.log(3.02), rtol=1e-6)
    task = task._replace(loss_scale=lambda config: config)
    np.testing.assert_allclose(normalized_loss(task, jnp.float32(6.0), 3.0), np.log(1.02), rtol=1e-6)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_is_a_positive_number(scale):
    with pytest.raises(ValueError, match="scale must be a positive number, the loss of an untrained model, got "):
        log_normalizer(scale)


def test_the_power_normalizer_is_a_logarithm_at_first_and_has_no_floor():
    normalize = power_normalizer(2.0, power=0.1)
    ratios = np.array([1.0, 0.9, 1e-2, 1e-8])
    np.testing.assert_allclose(normalize(2.0 * ratios), (ratios**0.1 - 1) / 0.1, rtol=1e-5)
    np.testing.assert_allclose(normalize(2.0 * ratios[1]), np.log(0.9), rtol=0.01)
    assert normalize(jnp.asarray(0.0)) < normalize(jnp.asarray(1e-20)) < normalize(jnp.asarray(1e-12)) - 0.1
    for bad in (np.nan, np.inf, 1e30):
        assert normalize(jnp.asarray(bad)) == normalize(jnp.asarray(20.0))


@pytest.mark.parametrize(("scale", "power"), [(0.0, 0.1), (np.inf, 0.1), (1.0, 0.0), (1.0, 1.5)])
def test_an_impossible_power_normalizer(scale, power):
    with pytest.raises(ValueError, match=r"must be a positive number|power must lie between 0 and 1"):
        power_normalizer(scale, power)
