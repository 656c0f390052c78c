"""Linear solvers against NumPy's, on vectors in two arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.estimators import linear_solvers

MATRIX = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 3.0]])
VECTOR = np.array([1.0, -1.0, 2.0])


def _solve(solver):
    """The solution for the matrix and the vector above."""

    def product(v):
        x = jnp.asarray(MATRIX) @ jnp.append(v["a"], v["b"])
        return {"a": x[:2], "b": x[2]}

    x = jax.jit(lambda b: solver(product, b))({"a": jnp.asarray(VECTOR[:2]), "b": jnp.asarray(VECTOR[2])})
    return np.append(x["a"], x["b"])


@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_conjugate_gradient(damping):
    with jax.enable_x64(True):
        solution = _solve(linear_solvers.conjugate_gradient(tolerance=1e-14, damping=damping))
        np.testing.assert_allclose(solution, np.linalg.solve(MATRIX + damping * np.eye(3), VECTOR), rtol=1e-12)


def test_one_step_of_conjugate_gradient_is_steepest_descent():
    """b (b'b) / (b'Hb): what is not yet within the tolerance is returned as it is."""
    with jax.enable_x64(True):
        solution = _solve(linear_solvers.conjugate_gradient(max_steps=1))
        np.testing.assert_allclose(solution, VECTOR * (VECTOR @ VECTOR) / (VECTOR @ MATRIX @ VECTOR), rtol=1e-12)


def test_conjugate_gradient_stops_where_the_curvature_is_negative():
    """H = diag(1, -1): along b = (2, 1) the curvature is 3, along the next direction it is negative."""
    with jax.enable_x64(True):
        h, b = np.array([1.0, -1.0]), jnp.array([2.0, 1.0])
        solve = linear_solvers.conjugate_gradient()
        np.testing.assert_allclose(solve(lambda v: h * v, b), (5 / 3) * b, rtol=1e-14)
        np.testing.assert_allclose(solve(lambda v: -h * v, b), (5 / 3) * b, rtol=1e-14)  # at once: its absolute value
        np.testing.assert_array_equal(solve(lambda v: 0 * v, b), 0.0)


def test_conjugate_gradient_after_convergence():
    """Steps beyond the exact solution do no harm, in float32, and b may be zero."""
    h = jnp.array([1.0, 2.0, 4.0], jnp.float32)
    solve = linear_solvers.conjugate_gradient(max_steps=200, tolerance=0.0)
    np.testing.assert_allclose(solve(lambda v: h * v, jnp.ones(3, jnp.float32)), 1 / h, rtol=1e-5)
    np.testing.assert_array_equal(solve(lambda v: h * v, jnp.zeros(3, jnp.float32)), 0.0)


def test_conjugate_gradient_of_a_singular_matrix():
    """It stops before it diverges: of (1, 1, 1), the zero of diag(1, 2, 0) cannot give the last 1."""
    h, solve = jnp.array([1.0, 2.0, 0.0]), linear_solvers.conjugate_gradient()
    np.testing.assert_allclose(solve(lambda v: h * v, jnp.ones(3)), [3.0, 0.0, 6.0], atol=1e-5)
    np.testing.assert_allclose(solve(lambda v: h * v, jnp.array([1.0, 1.0, 0.0])), [1.0, 0.5, 0.0], atol=1e-6)


def test_conjugate_gradient_says_nan_where_numbers_are_not_finite():
    """Not zero: estimators leave out a particle whose gradient is NaN, and count it."""
    solve, ones = linear_solvers.conjugate_gradient(), jnp.ones(3, jnp.float32)
    at_once, later = lambda v: jnp.nan * v, lambda v: jnp.where(v == 1, 1.0, jnp.inf) * jnp.arange(1.0, 4.0) * v
    assert np.isnan(solve(at_once, ones)).all() and np.isnan(solve(later, ones)).all()
    for b in (ones.at[1].set(jnp.nan), ones.at[1].set(jnp.inf), 1e30 * ones):  # the square of the last overflows
        assert np.isnan(solve(lambda v: 2.0 * v, b)).all()


def test_units_may_be_plain_numbers():
    solve = linear_solvers.scaled(linear_solvers.identity(), {"a": 2.0})
    np.testing.assert_array_equal(solve(lambda v: v, {"a": jnp.ones(2)})["a"], 4.0)


def test_scaled():
    """In units s the exact solution is the same, the identity is s², and a Neumann step is α s² b."""
    with jax.enable_x64(True):
        s = {"a": jnp.array([0.5, 2.0]), "b": jnp.asarray(0.1)}
        flat = np.array([0.5, 2.0, 0.1])
        exact = linear_solvers.scaled(linear_solvers.conjugate_gradient(tolerance=1e-14), s)
        np.testing.assert_allclose(_solve(exact), np.linalg.solve(MATRIX, VECTOR), rtol=1e-11)
        np.testing.assert_allclose(_solve(linear_solvers.scaled(linear_solvers.identity(), s)), flat**2 * VECTOR)
        series = linear_solvers.scaled(linear_solvers.neumann(num_terms=1, step_size=0.2), s)
        steps = 0.2 * np.diag(flat**2)
        np.testing.assert_allclose(_solve(series), steps @ VECTOR + (np.eye(3) - steps @ MATRIX) @ steps @ VECTOR)


@pytest.mark.parametrize("num_terms", [0, 4])
def test_neumann_series(num_terms):
    with jax.enable_x64(True):
        powers = [np.linalg.matrix_power(np.eye(3) - 0.2 * MATRIX, i) for i in range(num_terms + 1)]
        solution = _solve(linear_solvers.neumann(num_terms=num_terms, step_size=0.2))
        np.testing.assert_allclose(solution, 0.2 * sum(powers) @ VECTOR, rtol=1e-12)


def test_identity():
    with jax.enable_x64(True):
        np.testing.assert_array_equal(_solve(linear_solvers.identity(scale=0.25)), 0.25 * VECTOR)


@pytest.mark.parametrize(
    ("build", "arguments", "message"),
    [
        (linear_solvers.conjugate_gradient, {"max_steps": 0}, "max_steps must be at least 1, got 0"),
        (linear_solvers.conjugate_gradient, {"damping": -1.0}, "must not be negative, got 1e-06 and -1.0"),
        (linear_solvers.conjugate_gradient, {"tolerance": float("nan")}, "must not be negative, got nan and 0.0"),
        (linear_solvers.neumann, {"num_terms": 1, "step_size": float("inf")}, "positive and finite, got inf"),
        (linear_solvers.neumann, {"num_terms": -1, "step_size": 1.0}, "num_terms must be at least 0, got -1"),
        (linear_solvers.neumann, {"num_terms": 1, "step_size": 0.0}, "step_size must be positive and finite, got 0.0"),
    ],
)
def test_arguments_out_of_range(build, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)
