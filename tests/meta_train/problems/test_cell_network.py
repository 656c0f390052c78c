"""Networks of cells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import problems
from meta_train.problems.cell_operations import Operation

PASS = Operation("pass", lambda key, channels: (), lambda params, x: x)
SPACE = problems.cell_space([PASS], num_nodes=1)


def test_a_network_of_cells_that_pass_everything_on_by_hand():
    network = problems.cell_network(SPACE, 3, channels=2, num_cells=2)
    pictures = np.random.default_rng(0).normal(size=(2, 5, 4, 1)).astype(np.float32)
    params = jax.tree.map(np.asarray, network.init(jax.random.key(0), jnp.asarray(pictures)))
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = sum(padded[:, i : i + 5, j : j + 4] @ params["stem"][i, j] for i in range(3) for j in range(3))
    x = np.maximum(x, 0) @ params["joins"][0]
    x = x[:, :4].reshape(2, 2, 2, 2, 2, 2).mean(axis=(2, 4))
    x = np.maximum(np.maximum(x, 0) @ params["joins"][1], 0)
    expected = x.mean(axis=(1, 2)) @ params["head"]["w"] + params["head"]["b"]
    found = network.apply(params, jnp.ones(1, jnp.int32), jnp.asarray(pictures))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_bad_sizes():
    with pytest.raises(ValueError, match="stride must be at least 1, got 0"):
        problems.cell_network(SPACE, 3, stride=0)
