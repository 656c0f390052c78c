"""The networks against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_optim import networks


def _random_theta(network, *inputs):
    """Weights and biases that are all non-zero, so that none can be forgotten unseen."""
    random = np.random.RandomState(0)
    skeleton = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    return jax.tree.map(
        lambda leaf: jax.device_put(np.asarray(random.standard_normal(leaf.shape) * 0.7, np.float32)), skeleton
    )


def _float32(tree):
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf, np.float32)), tree)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("hidden_sizes", [(5,), (4, 3), (2, 6, 3), (17, 2, 20)])
def test_per_parameter_mlp_equals_numpy_with_the_shared_inputs_copied(hidden_sizes):
    """Features of four shapes that broadcast to one, in any order. Layers wider than 16 are computed another way."""
    network = networks.per_parameter_mlp(hidden_sizes, num_outputs=2)
    random = np.random.RandomState(1)
    inputs = [random.standard_normal(shape) for shape in ((5, 1), (5, 3), (1, 3), (5, 3), (1, 1), (5, 1))]
    scales, shared = random.standard_normal(6), random.standard_normal(4)
    theta = _random_theta(network, [jnp.zeros(())] * 6, jnp.ones(6), jnp.zeros(4))
    actual = jax.jit(network.apply)(theta, _float32(inputs), _float32(scales), _float32(shared))

    rows = [np.broadcast_to(x, (5, 3)).ravel() * scale for x, scale in zip(inputs, scales, strict=True)]
    hidden = np.concatenate([np.stack(rows, axis=1), np.tile(shared, (15, 1))], axis=1)  # [15, 10]: own inputs first
    for layer in range(len(hidden_sizes) + 1):
        weights = theta[f"linear_{layer}" if layer else "linear"]
        hidden = (np.maximum(hidden, 0) if layer else hidden) @ np.asarray(weights["w"]) + np.asarray(weights["b"])
    assert [output.shape for output in actual] == [(5, 3)] * 2
    np.testing.assert_allclose(np.stack(actual).reshape(2, 15), hidden.T, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", [(5, 7, 40_000), (70_001,), (3, 2)])
def test_blocks_change_nothing(shape):
    """Over the block size in the last axis, with a last block that overlaps; arrays that broadcast; a small tensor."""
    random = np.random.RandomState(5)
    arrays = [random.standard_normal(shape), random.standard_normal((1,) * (len(shape) - 1) + shape[-1:])]
    if len(shape) > 1:
        arrays.append(random.standard_normal((*shape[:-1], 1)))
    function = lambda x: (sum(x), x[0] * x[-1])
    made = jax.jit(lambda x: networks.in_blocks(function, x, 17))(_float32(arrays))
    for have, want in zip(made, function(_float32(arrays)), strict=True):
        np.testing.assert_array_equal(have, want)


def test_blocks_bound_the_memory_of_a_wide_network():
    """Two layers of 32 for 2 ** 20 coordinates would take 268 MB at once; a block takes 8 MB."""
    network = networks.per_parameter_mlp((32, 32), 1)
    theta = _random_theta(network, [jnp.zeros(())] * 2, jnp.ones(2), jnp.zeros(1))
    apply = lambda x: network.apply(theta, x, jnp.ones(2), jnp.zeros(1))
    x = jax.ShapeDtypeStruct((1 << 20,), jnp.float32)
    compiled = jax.jit(lambda x: networks.in_blocks(apply, x, 32)).lower([x, x]).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 2e7


@pytest.mark.parametrize("width", [1, 5, 16, 17])
def test_unrolled_linear_equals_numpy(width):
    random = np.random.RandomState(4)
    w, b = random.standard_normal((3, width)), random.standard_normal(width)
    inputs = [random.standard_normal(shape) for shape in ((2, 1, 4), (1, 3, 4), (2, 3, 4))]
    outputs = networks.unrolled_linear(_float32(w), _float32(b), _float32(inputs))
    expected = np.tensordot(w.T, np.stack([np.broadcast_to(x, (2, 3, 4)) for x in inputs]), 1) + b[:, None, None, None]
    assert [output.shape for output in outputs] == [(2, 3, 4)] * width
    np.testing.assert_allclose(np.stack(outputs), expected, rtol=1e-5, atol=1e-5)


def test_per_parameter_mlp_init():
    """Truncated normal of standard deviation 1 / sqrt(number of all inputs), biases zero."""
    init = jax.jit(networks.per_parameter_mlp((400, 300), 2).init)
    theta = init(jax.random.key(0), [jnp.zeros(())] * 8, jnp.ones(8), jnp.zeros(11))
    shapes = {name: {key: leaf.shape for key, leaf in layer.items()} for name, layer in theta.items()}
    assert shapes == {
        "linear": {"b": (400,), "w": (19, 400)},
        "linear_1": {"b": (300,), "w": (400, 300)},
        "linear_2": {"b": (2,), "w": (300, 2)},
    }
    for name, fan_in in (("linear", 19), ("linear_1", 400)):
        np.testing.assert_array_equal(theta[name]["b"], 0)
        # Haiku's stddev is that of the normal before it is cut at two deviations, which leaves 0.88 of it.
        np.testing.assert_allclose(np.std(theta[name]["w"]), 0.8796 / np.sqrt(fan_in), rtol=0.03)
        assert np.max(np.abs(theta[name]["w"])) <= 2.001 / np.sqrt(fan_in)


def _lstm_step(inputs, hidden, cell, weights):
    """Haiku's LSTM: gates in the order input, cell, forget, output, and 1 added to the forget gate."""
    gates = np.concatenate([inputs, hidden], axis=1) @ np.asarray(weights["w"]) + np.asarray(weights["b"])
    i, g, f, o = np.split(gates, 4, axis=1)
    cell = _sigmoid(f + 1) * cell + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(cell), cell


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 6])
def test_coordinatewise_lstm_equals_numpy(num_layers, n):
    network = networks.coordinatewise_lstm(4, num_layers)
    random = np.random.RandomState(2)
    draw = lambda: networks.LSTMState(random.standard_normal((n, 4)), random.standard_normal((n, 4)))
    inputs, state = random.standard_normal((n, 2)), tuple(draw() for _ in range(num_layers))
    zero = jnp.zeros((1, 4))
    theta = _random_theta(network, jnp.zeros((1, 2)), (networks.LSTMState(zero, zero),) * num_layers)
    output, new_state = jax.jit(network.apply)(theta, _float32(inputs), _float32(state))

    hidden, expected = inputs, []
    for layer, previous in enumerate(state):
        hidden, cell = _lstm_step(hidden, previous.hidden, previous.cell, theta[f"lstm_{layer}/linear"])
        expected += [hidden, cell]
    expected_output = hidden @ np.asarray(theta["linear"]["w"])[:, 0] + np.asarray(theta["linear"]["b"])
    np.testing.assert_allclose(output, expected_output, rtol=1e-5, atol=1e-6)
    for have, want in zip(jax.tree.leaves(new_state), expected, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-6)


def test_lstm_by_units_has_the_outputs_and_the_derivatives_of_coordinatewise_lstm():
    """With respect to weights, inputs and state, of a function of all outputs."""
    network, random = networks.coordinatewise_lstm(3, 2), np.random.RandomState(7)
    draw = lambda *shape: random.standard_normal(shape)
    inputs, state = _float32((draw(5, 2), tuple(networks.LSTMState(draw(5, 3), draw(5, 3)) for _ in range(2))))
    theta, weights = _random_theta(network, inputs, state), _float32((draw(5), draw(4, 5, 3)))

    def total(theta, inputs, state, by_units):
        if by_units:
            output, state = networks.lstm_by_units(theta, inputs.T, jax.tree.map(jnp.transpose, state))
            state = jax.tree.map(jnp.transpose, state)
        else:
            output, state = network.apply(theta, inputs, state)
        rows = jnp.stack(jax.tree.leaves(state))
        return jnp.vdot(weights[0], output) + jnp.vdot(weights[1], rows), (output, rows)

    derive = jax.jit(jax.grad(total, argnums=(0, 1, 2), has_aux=True), static_argnums=3)
    have, want = (derive(theta, inputs, state, by_units) for by_units in (True, False))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), have, want)


@pytest.mark.parametrize("mixing_layers", [0, 1, 2])
def test_tensor_lstm_equals_numpy(mixing_layers):
    network = networks.tensor_lstm(4, (3, 1), mixing_layers=mixing_layers)
    random = np.random.RandomState(6)
    inputs = random.standard_normal((5, 2))
    state = networks.LSTMState(random.standard_normal((5, 4)), random.standard_normal((5, 4)))
    zero = jnp.zeros((1, 4))
    theta = _random_theta(network, jnp.zeros((1, 2)), networks.LSTMState(zero, zero))
    outputs, new_state = jax.jit(network.apply)(theta, _float32(inputs), _float32(state))

    linear = lambda name, x: x @ np.asarray(theta[name]["w"]) + np.asarray(theta[name]["b"])
    if mixing_layers:
        mixed = inputs
        for name in ("mix_max",) if mixing_layers == 1 else ("mix_first", "mix_second"):
            mixed = np.maximum(linear(name, mixed), 0)
        inputs = linear("mix_own", inputs) + mixed.max(axis=0)
    hidden, cell = _lstm_step(inputs, state.hidden, state.cell, theta["lstm/linear"])
    expected = (linear("output_0", hidden), linear("output_1", hidden), hidden, cell)
    for have, want in zip((*outputs, *new_state), expected, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-6)
