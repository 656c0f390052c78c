"""Warp layers: the identity at first, and told apart by name."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.few_shot import Network
from meta_train.few_shot import conv4
from meta_train.few_shot import perceptron
from meta_train.few_shot.warped import split
from meta_train.few_shot.warped import warped


@pytest.mark.parametrize(
    ("plain", "shape", "layers"),
    [
        (perceptron(2, hidden_sizes=(4, 3)), (5, 2), {"linear_0", "linear_1"}),
        (conv4(2, channels=3), (4, 8, 8, 1), {f"block_{i}" for i in range(4)}),
    ],
    ids=["perceptron", "conv4"],
)
def test_at_first_the_network_computes_what_it_did(plain, shape, layers):
    network, inputs = warped(plain), jax.random.normal(jax.random.key(1), shape)
    params = jax.jit(network.init)(jax.random.key(0), inputs)
    adapted, warps = split(params)
    assert set(adapted) == {*layers, "head"}
    assert set(warps) == {f"{name}/warp" for name in layers}
    assert {**adapted, **warps} == params
    apply = jax.jit(network.apply)
    np.testing.assert_allclose(apply(params, inputs), jax.jit(plain.apply)(adapted, inputs), rtol=1e-5, atol=1e-6)
    moved = {**adapted, **jax.tree.map(lambda x: 1.5 * x + 0.1, warps)}
    assert np.max(np.abs(apply(moved, inputs) - apply(params, inputs))) > 1e-3


def test_a_linear_layer_and_its_warp_are_the_product_of_their_matrices():
    network, inputs = warped(perceptron(2, hidden_sizes=(3,))), jnp.array([[1.0, 2.0], [3.0, -1.0]])
    params = network.init(jax.random.key(0), inputs)
    warp = jax.random.normal(jax.random.key(1), (3, 3))
    params["linear_0/warp"] = {"w": warp, "b": jnp.ones(3)}
    hidden = jax.nn.relu(inputs @ params["linear_0"]["w"] @ warp + 1.0)
    np.testing.assert_allclose(network.apply(params, inputs), hidden @ params["head"]["w"], rtol=1e-5, atol=1e-6)


def test_layers_that_cannot_be_warped():
    made = hk.without_apply_rng(hk.transform(lambda x: hk.Linear(2)(x[:, None])[:, 0]))
    with pytest.raises(ValueError, match=r"layers must return .* got \(5, 1, 2\)"):
        warped(Network(made.init, made.apply, "head")).init(jax.random.key(0), jnp.ones((5, 3)))
