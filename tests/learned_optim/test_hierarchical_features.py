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
def test_without_a_finite_loss_the_feature_is_zero(first):
    loss = None if first is None else jnp.asarray(first)
    feature, statistics = h.loss_feature(loss, h.first_loss_statistics())
    assert float(feature) == 0.0 and float(statistics.count) == 0.0


def test_a_loss_above_its_average_is_positive():
    statistics = h.first_loss_statistics()
    for loss in (1.0, 1.1, 0.9, 1.0):
        _, statistics = h.loss_feature(jnp.asarray(loss), statistics)
    assert float(h.loss_feature(jnp.asarray(3.0), statistics)[0]) > 1.0
    assert float(h.loss_feature(jnp.asarray(-1.0), statistics)[0]) < -1.0


def test_sizes_of_features():
    grads, params = [jnp.ones((4, 3)), jnp.ones(())], [jnp.full((4, 3), 2.0), jnp.ones(())]
    slots = [h.accumulate(grad, _slots(grad.shape)) for grad in grads]
    arrays, mean_squares = h.coordinates(grads[0], params[0], slots[0])
    assert len(jax.tree.leaves(arrays)) == len(jax.tree.leaves(mean_squares)) == h.NUM_FEATURES == 23
    assert float(mean_squares.param) == 4.0
    inputs = h.lstm_inputs(
        grads, params, slots, loss=jnp.asarray(0.5), from_mlp=jnp.zeros((2, 16)), from_lstm=jnp.ones(18)
    )
    assert inputs.shape == (2, h.NUM_TENSOR_FEATURES + 16 + 18)
    np.testing.assert_array_equal(inputs[:, -1], [0.5, 0.5])  # the loss
    np.testing.assert_array_equal(inputs[:, 10], [-1.0, 1.0])  # the second tensor is a scalar
