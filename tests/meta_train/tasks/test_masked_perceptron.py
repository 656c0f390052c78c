"""The masked perceptron is the smaller one that it stands for."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.tasks import masked_perceptron
from meta_train.tasks.masked_perceptron import ACTIVATIONS
from meta_train.tasks.masked_perceptron import NetworkDraw

SIZES = (6, 8, 8, 8, 4)
SHOWN = np.array([1.0, 0.0, -2.0, 0.5, 0.0, 1.0])
ACTIVATE = {
    "relu": lambda x: np.maximum(x, 0.0),
    "tanh": np.tanh,
    "gelu": lambda x: 0.5 * x * (1.0 + np.tanh((2.0 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1.0 + np.exp(-x)),
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
}


def drawn(widths, depth, activation="relu", *, normalized=False):
    place = jnp.int32(ACTIVATIONS.index(activation))
    scales = jnp.array([1.0, 2.0, 0.5, 3.0], jnp.float32)
    return NetworkDraw(jnp.array(widths, jnp.int32), jnp.int32(depth), place, jnp.asarray(normalized), scales)


@jax.jit
def run(params, x, draw):
    """Outputs, and the gradient of the sum of the sines of the first three."""
    value = lambda params: jnp.sum(jnp.sin(masked_perceptron.apply(params, x, draw)[:, :3]))
    return masked_perceptron.apply(params, x, draw)[:, :3], jax.grad(value)(params)


def smaller(params, widths, depth):
    """The weights of the network that counts: those of its inputs, units and layers."""
    inputs, layers = np.flatnonzero(SHOWN), []
    for i in range(depth):
        units = np.arange(widths[i])
        layers.append((params[f"layer_{i}"]["w"][np.ix_(inputs, units)], params[f"layer_{i}"]["b"][units]))
        inputs = units
    return [*layers, (params["layer_3"]["w"][np.ix_(inputs, np.arange(3))], params["layer_3"]["b"][:3])]


def run_smaller(layers, x, activation, *, normalized):
    *hidden, (w_out, b_out) = layers
    for w, b in hidden:
        x = x @ w + b
        if normalized:
            x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
        x = activation(x)
    return x @ w_out + b_out


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("widths", "depth", "normalized"), [((5, 8, 3), 3, False), ((7, 2, 4), 2, True)])
def test_outputs_and_gradients_are_those_of_the_smaller_network(widths, depth, activation, normalized):
    rng = np.random.default_rng(0)
    make = lambda rows, columns: {"w": rng.normal(size=(rows, columns)), "b": rng.normal(size=columns)}
    params = {f"layer_{i}": make(*shape) for i, shape in enumerate(itertools.pairwise(SIZES))}  # none is 0
    x = SHOWN * rng.normal(size=(9, 6))
    with jax.enable_x64(True):
        draw = drawn(widths, depth, activation, normalized=normalized)
        outputs, gradient = jax.tree.map(np.asarray, run(params, x, draw))
    small = functools.partial(run_smaller, activation=ACTIVATE[activation], normalized=normalized)
    layers, x = smaller(params, widths, depth), x[:, np.flatnonzero(SHOWN)]
    np.testing.assert_allclose(outputs, small(layers, x), rtol=1e-10, atol=1e-10)

    inside = smaller(gradient, widths, depth)
    sums = [sum(np.abs(leaf).sum() for leaf in jax.tree.leaves(tree)) for tree in (inside, gradient)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-12)  # and so it is 0 wherever else
    direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), layers)
    shifted = [jax.tree.map(lambda p, d, e=e: p + e * d, layers, direction) for e in (1e-6, -1e-6)]
    above, below = (np.sin(small(each, x)).sum() for each in shifted)
    slope = sum((g * d).sum() for g, d in zip(jax.tree.leaves(inside), jax.tree.leaves(direction), strict=True))
    assert slope == pytest.approx((above - below) / 2e-6, rel=1e-6)


def test_initial_weights_are_zero_outside_and_have_the_drawn_scale_inside():
    draw = drawn((5, 8, 3), 2)
    init = lambda key: masked_perceptron.init(key, draw, jnp.asarray(SHOWN, jnp.float32), jnp.int32(3), SIZES)
    params = jax.jit(jax.vmap(init))(jax.random.split(jax.random.key(0), 300))
    used = {name: np.asarray(each["w"] != 0).any(axis=0) for name, each in params.items()}
    shown = np.asarray(SHOWN) != 0
    np.testing.assert_array_equal(used["layer_0"], shown[:, None] & (np.arange(8) < 5))
    np.testing.assert_array_equal(used["layer_1"], (np.arange(8) < 5)[:, None] & (np.arange(8) < 8))
    assert not used["layer_2"].any()
    np.testing.assert_array_equal(used["layer_3"], (np.arange(8) < 8)[:, None] & (np.arange(4) < 3))
    normal = 0.8796  # standard deviation of a normal distribution that is cut off at 2
    for name, scale, fan_in in (("layer_0", 1.0, 4), ("layer_1", 2.0, 5), ("layer_3", 3.0, 8)):
        found = np.asarray(params[name]["w"])[:, used[name]].std()
        np.testing.assert_allclose(found, normal * scale / fan_in**0.5, rtol=0.05)
    assert all(not np.any(each["b"]) for each in params.values())


def test_networks_vary():
    draws = jax.jit(jax.vmap(lambda key: masked_perceptron.sample(key, 64, 3)))(
        jax.random.split(jax.random.key(0), 400)
    )
    assert set(np.unique(draws.widths)) == set(masked_perceptron.possible_widths(64))
    assert set(np.unique(draws.depth)) == {1, 2, 3}
    assert set(np.unique(draws.activation)) == set(range(len(ACTIVATIONS)))
    assert 0.2 < np.mean(draws.normalized) < 0.4
    equal = np.ptp(draws.widths, axis=1) == 0
    assert 0.4 < equal.mean() < 0.6
    scales = np.asarray(draws.init_scale)
    assert 0.5 / 1.4 - 1e-5 <= scales[:, :3].min() < 0.45
    assert 2.3 < scales[:, :3].max() <= 2.8 + 1e-5
    assert 0.03 - 1e-5 <= scales[:, 3].min() < 0.05
    assert 1.5 < scales[:, 3].max() <= 2 + 1e-5
