"""An LSTM for each coordinate: both layouts of its state give the same outputs, with and without a layer before it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_optim import coordinate_lstm
from learned_optim.networks import LSTMState

SIZE, LAYERS, INPUTS = 3, 2, 2


@pytest.mark.parametrize("with_layer", [False, True])
def test_a_tensor_in_both_layouts(with_layer):
    keys = iter(jax.random.split(jax.random.key(0), 20))
    normal = lambda *shape: jax.random.normal(next(keys), shape)
    layer = {"w": normal(INPUTS, SIZE), "b": normal(SIZE)} if with_layer else None
    weights = coordinate_lstm.draw(next(keys), SIZE, LAYERS, SIZE if with_layer else INPUTS)
    inputs = [normal(4, 5) for _ in range(INPUTS)]
    state = tuple(LSTMState(normal(4, 5, SIZE), normal(4, 5, SIZE)) for _ in range(LAYERS))
    rows = jax.tree.map(lambda x: x.reshape(-1, SIZE).T, state)

    output, after = coordinate_lstm.advance(weights, inputs, state, by_units=False, layer=layer)
    by_units, after_rows = coordinate_lstm.advance(weights, inputs, rows, by_units=True, layer=layer)
    assert output.shape == by_units.shape == (4, 5)
    np.testing.assert_allclose(output, by_units, rtol=1e-5, atol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a.reshape(-1, SIZE).T, b, rtol=1e-5, atol=1e-6), after, after_rows
    )
    one = jax.tree.map(lambda x: x[1:2, 2:3], (inputs, state))
    alone, _ = coordinate_lstm.advance(weights, *one, by_units=False, layer=layer)
    np.testing.assert_allclose(alone, output[1:2, 2:3], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("by_units", "shape"), [(True, (SIZE, 20)), (False, (4, 5, SIZE))])
def test_states_begin_at_zero(by_units, shape):
    layers = coordinate_lstm.slots(SIZE, LAYERS, by_units=by_units)
    make = layers[0].hidden.make if by_units else layers[0].hidden
    assert len(layers) == LAYERS
    np.testing.assert_array_equal(make(jnp.ones((4, 5))), np.zeros(shape))
