"""Cells: mixed and chosen ones agree, and what a search chooses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import problems
from meta_train.problems.cell_operations import Operation

SCALE = Operation("scale", lambda key, channels: jax.random.normal(key, (channels,)), lambda w, x: w * x)
SQUARE = Operation("square", lambda key, channels: (), lambda params, x: x**2)
SPACE = problems.cell_space([SCALE, SQUARE], num_nodes=2)
FEATURES = np.array([[0.5, -1.0, 2.0], [1.5, 0.3, -0.2]], np.float32)


def test_a_mixed_cell_by_hand():
    params = problems.init_cell(jax.random.key(0), SPACE, 3)
    (w, _), a = params, np.array([[0.1, 0.6, 0.3], [0.2, 0.0, 0.8], [0.5, 0.4, 0.1]], np.float32)
    w = np.asarray(w)
    assert w.shape == (3, 3)
    edge = lambda e, x: a[e, 1] * w[e] * x + a[e, 2] * x**2
    first = edge(0, FEATURES)
    second = edge(1, FEATURES) + edge(2, first)
    found = problems.apply_cell(SPACE, params, jnp.asarray(a), jnp.asarray(FEATURES))
    np.testing.assert_allclose(found, np.concatenate([first, second], axis=1), rtol=1e-5)


def test_a_chosen_cell_and_its_derivative_are_those_of_weights_of_one():
    params = problems.init_cell(jax.random.key(0), SPACE, 3)
    loss = lambda params, cell: jnp.sum(jnp.sin(problems.apply_cell(SPACE, params, cell, jnp.asarray(FEATURES))))
    both = jax.jit(jax.value_and_grad(loss))
    cells = jnp.array([[1, 2, 0], [2, 1, 1]], jnp.int32)
    lanes = jax.vmap(jax.value_and_grad(loss), in_axes=(None, 0))(params, problems.mixing_weights(SPACE, cells))
    for i, cell in enumerate(cells):
        found = both(params, cell)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y[i], rtol=1e-5, atol=1e-6), found, lanes)  # noqa: B023
    assert np.any(found[1][0] != 0)


def test_the_strongest_edges_of_a_node_are_kept_with_their_strongest_operations():
    space = problems.cell_space([SCALE, SQUARE], num_nodes=3, edges_per_node=2)
    theta = np.zeros((6, 3))
    theta[3:] = [[4.0, 0.0, 1.0], [0.0, 0.5, 0.0], [0.0, 0.0, 2.0]]  # into node 3; the first is mostly left out
    theta[0] = [9.0, 0.0, 0.1]  # the only edge into node 1
    theta[1:3] = [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    assert problems.discretize(space, theta).tolist() == [2, 1, 2, 0, 1, 2]
    assert (
        problems.describe_cell(space, np.array([2, 1, 2, 0, 0, 0])) == "1 = square(0), 2 = scale(0) + square(1), 3 = 0"
    )


def test_random_cells_are_uniform_over_what_can_be_chosen():
    space = problems.cell_space([SCALE, SQUARE], num_nodes=3, edges_per_node=2)
    cells = problems.random_cells(space, 6_000, seed=1)
    np.testing.assert_allclose(np.mean(cells > 0, axis=0), [1, 1, 1, 2 / 3, 2 / 3, 2 / 3], atol=0.03)
    np.testing.assert_allclose(np.mean(cells == 1, axis=0), np.mean(cells == 2, axis=0), atol=0.03)
    assert np.all(np.sum(cells[:, 3:] > 0, axis=1) == 2)
    np.testing.assert_array_equal(cells, problems.random_cells(space, 6_000, seed=1))


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"a cell needs operations of different names, got \['scale', 'scale'\]"):
        problems.cell_space([SCALE, SCALE])
    with pytest.raises(ValueError, match="num_nodes and edges_per_node must be at least 1, got 0 and 2"):
        problems.cell_space([SCALE], num_nodes=0)
    with pytest.raises(ValueError, match=r"of shape \(3, 3\), edges by choices, got \(3, 2\)"):
        problems.discretize(SPACE, np.zeros((3, 2)))
    with pytest.raises(ValueError, match="theta must be finite"):
        problems.discretize(SPACE, np.full((3, 3), np.nan))
