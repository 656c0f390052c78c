"""Features of a network in haiku."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.few_shot import Network
from meta_train.few_shot.features import features


def _network(head):
    layers = lambda x: hk.Linear(2, name="last")(jnp.tanh(hk.Linear(4)(x)))
    made = hk.without_apply_rng(hk.transform(layers))
    return Network(made.init, made.apply, head)


def test_the_head_of_the_features_is_the_network():
    network, inputs = _network("last"), jax.random.normal(jax.random.key(1), (5, 3))
    params = network.init(jax.random.key(0), inputs)
    found = jax.jit(lambda params, inputs: features(network, params, inputs))(params, inputs)
    assert found.shape == (5, 4)
    expected = found @ params["last"]["w"] + params["last"]["b"]
    np.testing.assert_allclose(network.apply(params, inputs), expected, rtol=1e-6)


def test_a_wrong_name_of_the_head():
    network, inputs = _network("head"), jnp.ones((5, 3))
    with pytest.raises(ValueError, match=r"must call a haiku module named 'head'"):
        features(network, network.init(jax.random.key(0), inputs), inputs)
