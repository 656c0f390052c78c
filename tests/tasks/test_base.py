"""The scale on which tasks compare."""

import numpy as np
import pytest

from meta_train.tasks.base import log_normalizer


def test_log_normalizer():
    losses = np.array([0.0, 1.0, 2.0, 19.9, 20.1, np.inf, np.nan], np.float32)
    expected = np.log([0.02, 0.52, 1.02, 9.97, 10.02, 10.02, 10.02])
    np.testing.assert_allclose(log_normalizer(2.0)(losses), expected, rtol=1e-5)
    assert log_normalizer(2.0).keywords["scale"] == 2.0


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_is_a_positive_number(scale):
    with pytest.raises(ValueError, match="scale must be a positive number, the loss of an untrained model, got "):
        log_normalizer(scale)
