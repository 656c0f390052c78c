"""The networks by hand on one batch, their sizes, and second derivatives through an adapted one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.few_shot import conv4
from meta_train.few_shot import perceptron


def test_a_perceptron_by_hand():
    network = perceptron(2, hidden_sizes=(3,))
    x = jax.random.normal(jax.random.key(0), (4, 2, 2))
    params = network.init(jax.random.key(1), x)
    hidden = np.maximum(x.reshape(4, 4) @ params["linear_0"]["w"] + params["linear_0"]["b"], 0)
    expected = hidden @ params[network.head]["w"] + params[network.head]["b"]
    np.testing.assert_allclose(network.apply(params, x), expected, rtol=1e-5)
    assert {name: layer["w"].shape for name, layer in params.items()} == {"linear_0": (4, 3), "head": (3, 2)}


def test_the_perceptron_of_the_paper_has_1761_weights():
    params = jax.eval_shape(perceptron(1).init, jax.random.key(0), jnp.zeros((1, 1)))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 40 + 40 + 40 * 40 + 40 + 40 + 1


def _block(x, layer, strided):
    """One block with XLA's convolution and NumPy's pooling."""
    stride = 2 if strided else 1
    y = jax.lax.conv_general_dilated(
        x, layer["w"], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    y = np.asarray(y)
    y = (y - y.mean((0, 1, 2))) / np.sqrt(y.var((0, 1, 2)) + 1e-3) * layer["scale"] + layer["offset"]
    y = np.maximum(y, 0)
    _, height, width, _ = y.shape
    if strided or min(height, width) < 2:
        return y
    rows, columns = height - height % 2, width - width % 2
    corners = [y[:, i:rows:2, j:columns:2] for i in (0, 1) for j in (0, 1)]
    return np.max(corners, axis=0)


@pytest.mark.parametrize("strided", [False, True])
def test_four_blocks_by_hand(strided):
    """Pictures of 12×9: 6×4, 3×2, then 1×1, which is pooled no further."""
    network = conv4(3, channels=4, strided=strided)
    x = jax.random.normal(jax.random.key(0), (5, 12, 9, 2))
    params = network.init(jax.random.key(1), x)
    noise = iter(jax.random.split(jax.random.key(2), 20))
    params = jax.tree.map(lambda p: p + 0.3 * jax.random.normal(next(noise), p.shape), params)
    for i in range(4):
        params[f"block_{i}"]["scale"] *= jnp.array([1.0, -1.0, 1.0, -1.0])
    y = x
    for i in range(4):
        y = _block(y, params[f"block_{i}"], strided)
    y = y.mean((1, 2)) if strided else y.reshape(5, -1)
    expected = y @ params[network.head]["w"] + params[network.head]["b"]
    np.testing.assert_allclose(network.apply(params, x), expected, rtol=1e-3, atol=1e-3)


def test_the_omniglot_networks_have_111680_weights_and_a_head():
    """9 + 3 · 9 · 64 filters of 64 channels, scales and offsets, 64 features for the head, with either kind."""
    for strided in (False, True):
        params = jax.eval_shape(conv4(5, strided=strided).init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
        head = params.pop("head")
        assert head["w"].shape == (64, 5)
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 64 * 9 * (1 + 3 * 64) + 4 * 2 * 64 == 111_680


def test_second_derivatives():
    """The derivative of an adapted loss along a direction equals a difference quotient, in float64."""
    with jax.enable_x64(True):
        network = conv4(2, channels=3)
        x = jax.random.normal(jax.random.key(0), (4, 8, 8, 1), jnp.float64)
        params = network.init(jax.random.key(1), x)
        loss = lambda params, x: jnp.sum(jnp.sin(network.apply(params, x)))

        def adapted_loss(params):
            grads = jax.grad(loss)(params, x[:2])
            return loss(jax.tree.map(lambda p, g: p - 0.01 * g, params, grads), x[2:])

        noise = iter(jax.random.split(jax.random.key(2), 20))
        direction = jax.tree.map(lambda p: jax.random.normal(next(noise), p.shape, p.dtype), params)
        along = jax.jit(lambda t: adapted_loss(jax.tree.map(lambda p, d: p + t * d, params, direction)))
        slope = jax.jit(jax.grad(along))(jnp.zeros((), jnp.float64))
        quotient = (along(1e-6) - along(-1e-6)) / 2e-6
        np.testing.assert_allclose(slope, quotient, rtol=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: perceptron(0), "num_outputs must be at least 1, got 0"),
        (lambda: perceptron(1, (40, 0)), r"hidden_sizes\[1\] must be at least 1, got 0"),
        (lambda: conv4(5, channels=0), "channels must be at least 1, got 0"),
        (lambda: conv4(5).init(jax.random.key(0), jnp.zeros((2, 64))), r"conv4 needs pictures, .*, got \(2, 64\)"),
    ],
)
def test_wrong_sizes(build, message):
    with pytest.raises(ValueError, match=message):
        build()
