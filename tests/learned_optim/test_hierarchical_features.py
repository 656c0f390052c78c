"""Features of `hierarchical_mlp`, whose own test compares the whole update with NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_optim import hierarchical_features as h


def _slots(shape):
    return h.Slots((jnp.zeros(shape),) * 5, (jnp.zeros(shape),) * 5)


def test_first_gradients_are_clipped_to_ten():
    grads, _ = h.clip([jnp.asarray([3.0, -99.0])], jnp.asarray(1.0 - h.CLIP_DECAY), jnp.asarray(0.0))
    np.testing.assert_allclose(grads[0], [3.0, -10.0], rtol=1e-5)


@pytest.mark.parametrize("first", [None, np.nan, np.inf])
def test_without_a_finite_loss_the_features_are_zero(first):
    loss = None if first is None else jnp.asarray(first)
    found, statistics = h.loss_features(loss, h.first_loss_statistics())
    np.testing.assert_array_equal(found, [0.0, 0.0])
    assert float(statistics.count) == 0.0


def test_a_loss_above_its_average_is_positive():
    """And 0, which stands for the validation loss, is below the average of positive losses."""
    statistics = h.first_loss_statistics()
    for loss in (1.0, 1.1, 0.9, 1.0):
        _, statistics = h.loss_features(jnp.asarray(loss), statistics)
    high, low = (h.loss_features(jnp.asarray(loss), statistics)[0] for loss in (3.0, -1.0))
    assert high[0] > 1.0 > high[1] and high[1] < 0.0
    assert low[0] < -1.0


@pytest.mark.parametrize("loss", [0.0, -1e3, 1e38])
def test_statistics_of_any_loss_stay_finite(loss):
    statistics = h.first_loss_statistics()
    for _ in range(3):
        found, statistics = h.loss_features(jnp.asarray(loss), statistics)
        assert np.all(np.abs(found) <= 5.0)
    assert all(np.isfinite(leaf) for leaf in statistics)


def test_sizes_of_features():
    grads, params = [jnp.ones((4, 3)), jnp.ones(())], [jnp.full((4, 3), 2.0), jnp.ones(())]
    slots = [h.accumulate(grad, _slots(grad.shape)) for grad in grads]
    arrays, mean_squares = h.coordinates(grads[0], params[0], slots[0])
    assert len(jax.tree.leaves(arrays)) == len(jax.tree.leaves(mean_squares)) == h.NUM_FEATURES == 23
    assert float(mean_squares.param) == 4.0
    inputs = h.lstm_inputs(
        grads, params, slots, losses=jnp.asarray([0.5, -0.5]), from_mlp=jnp.zeros((2, 16)), from_lstm=jnp.ones(18)
    )
    assert inputs.shape == (2, h.NUM_TENSOR_FEATURES + 16 + 18)
    np.testing.assert_array_equal(inputs[:, -5:-3], [[0.5, -0.5]] * 2)  # the loss
    np.testing.assert_array_equal(inputs[:, 35], [-1.0, 1.0])  # the second tensor is a scalar
