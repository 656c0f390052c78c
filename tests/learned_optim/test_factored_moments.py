"""Rows, columns and decays. The test of `factored_mlp` compares the features that follow from them with NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from learned_optim import factored_moments


@pytest.mark.parametrize(
    ("shape", "row", "column"),
    [((), (), ()), ((5,), (5,), (1,)), ((4, 3), (1, 3), (4, 1)), ((2, 7, 5), (2, 1, 5), (2, 7, 1))],
)
def test_shapes_of_rows_and_columns(shape, row, column):
    assert factored_moments.row(jnp.ones(shape)).shape == row
    assert factored_moments.column(jnp.ones(shape)).shape == column


def test_the_first_averages_of_a_matrix():
    grad = jnp.asarray(np.random.RandomState(0).standard_normal((4, 3)), jnp.float32)
    zeros = jnp.zeros((4, 3))
    slots = factored_moments.Slots((zeros,) * 3, zeros, (jnp.zeros((1, 3)),) * 3, (jnp.zeros((4, 1)),) * 3)
    factored, squares, new = factored_moments.factor(grad, slots.momenta, slots, (0.9, 0.99, 0.999))
    for i, weight in enumerate((0.1, 0.01, 0.001)):
        np.testing.assert_allclose(factored.rows[i], weight * np.mean(np.square(grad), 0, keepdims=True), rtol=1e-4)
        np.testing.assert_allclose(factored.columns[i], weight * np.mean(np.square(grad), 1, keepdims=True), rtol=1e-4)
        np.testing.assert_array_equal(new.rows[i], factored.rows[i])
        across, down = factored.grad_factors[i]
        np.testing.assert_allclose(squares.factored_grads[i], np.mean(np.square(grad * across * down)), rtol=1e-5)
    np.testing.assert_allclose(squares.grad, np.mean(np.square(grad)), rtol=1e-6)


def test_an_offset_of_zero_is_the_decay_itself():
    for moved, fixed in zip(
        factored_moments.moved_decays(factored_moments.decay_offsets()), factored_moments.DECAYS, strict=True
    ):
        np.testing.assert_allclose(moved, fixed, rtol=1e-6)


@pytest.mark.parametrize("epsilon", [1e-6, 0.0])
def test_what_is_added_to_the_averages_of_a_vector(epsilon):
    """1e-6 in F(m), or nothing there, and 1e-30 to squared gradients: then a coordinate without one gives 0."""
    grad = jnp.asarray([0.0, 1e-4])
    slots = factored_moments.Slots([jnp.zeros(2)] * 3, jnp.zeros(2), [jnp.zeros(2)] * 3, [jnp.zeros(1)] * 3)
    decays = (0.9, 0.99, 0.999)
    momenta = [(1 - decay) * grad for decay in decays]
    factored, squares, _ = factored_moments.factor(grad, momenta, slots, decays, vector_epsilon=epsilon)
    for i, decay in enumerate(decays):
        average = (1 - decay) * (np.array([0.0, 1e-8]) + (0.0 if epsilon else 1e-30))
        expected = (1 - decay) * np.array([0.0, 1e-4]) / np.sqrt(average + epsilon)
        (factor,) = factored.momentum_factors[i]
        np.testing.assert_allclose(momenta[i] * factor, expected, rtol=1e-4)
        np.testing.assert_allclose(factored.rows[i], average, rtol=1e-4)
        np.testing.assert_allclose(squares.factored_momenta[i], np.mean(expected**2), rtol=1e-4)
