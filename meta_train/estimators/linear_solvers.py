"""Solvers of H x = b that see the symmetric matrix H only through its products with vectors.

Each function builds a solver `(product, b) -> x`, where `product` is the function v -> H v on pytrees like b.
"""

from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import jax.numpy as jnp
import optax

from learned_optim import checks


class ProductFn(Protocol):
    """Multiplies a vector by the symmetric matrix H."""

    def __call__(self, v: Any, /) -> Any:
        """Returns H v.

        Args:
          v: a vector, as a pytree.
        """
        ...


class LinearSolver(Protocol):
    """Solves H x = b, exactly or not."""

    def __call__(self, product: ProductFn, b: Any, /) -> Any:
        """Returns x.

        Args:
          product: the function v -> H v, on pytrees like b.
          b: the right-hand side, as a pytree.
        """
        ...


def conjugate_gradient(*, max_steps: int = 20, tolerance: float = 1e-6, damping: float = 0.0) -> LinearSolver:
    """Builds the conjugate gradient method for a positive definite H.

    Away from a minimum H may not be one. So it stops where the curvature along its direction is not positive, with what
    it has by then (Steihaug 1983); that is `b` over its curvature's absolute value if it is so in the first step, and 0
    if there is no curvature. It stops too before a step that would leave a residual of more than 1/√eps times b, 2,900
    times in float32: then H is singular to rounding, and `b` not in its range. The result is NaN if b, or a product
    with H, is not finite.

    Args:
      max_steps: the most products with H. A result that is not yet within the tolerance is returned as it is.
      tolerance: norm of the residual, relative to that of b, where it stops before.
      damping: added to the diagonal of H, which an H with small, zero or slightly negative eigenvalues needs.

    Raises:
      ValueError: if an argument is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> solve = conjugate_gradient()
      >>> x = solve(lambda v: {"a": 2 * v["a"], "b": 4 * v["b"]}, {"a": jnp.ones(2), "b": jnp.ones(())})
      >>> float(x["a"][0]), float(x["b"])
      (0.5, 0.25)

    References:
      Rajeswaran et al. 2019, "Meta-Learning with Implicit Gradients", https://arxiv.org/abs/1909.04630;
      Steihaug 1983, "The Conjugate Gradient Method and Trust Regions in Large Scale Optimization",
      https://doi.org/10.1137/0720042
    """
    max_steps = checks.whole_number("max_steps", max_steps, 1)
    if not (tolerance >= 0 and damping >= 0):
        raise ValueError(f"tolerance and damping must not be negative, got {tolerance} and {damping}.")
    dot = lambda a, b: jnp.asarray(optax.tree.vdot(a, b))

    def solve(product, b):
        begin, least = dot(b, b), tolerance**2 * dot(b, b)
        most = begin / float(jnp.finfo(begin.dtype).eps)

        def unfinished(carry):
            return (carry.steps < max_steps) & carry.going & (carry.square > least)

        def step(carry):
            moved = optax.tree.add_scale(product(carry.direction), damping, carry.direction)
            curvature = dot(carry.direction, moved)
            positive, first = curvature > 0, carry.steps == 0
            usable = positive | (first & (curvature < 0))
            size = jnp.where(usable, carry.square / jnp.where(usable, jnp.abs(curvature), 1), 0)
            residual = optax.tree.add_scale(carry.residual, -size, moved)
            square = dot(residual, residual)
            bounded = square <= most
            size = jnp.where(bounded, size, 0)
            size = jnp.where(jnp.isfinite(curvature), size, jnp.nan)
            return _Conjugate(
                carry.steps + 1,
                optax.tree.add_scale(carry.solution, size, carry.direction),
                residual,
                optax.tree.add_scale(residual, square / carry.square, carry.direction),
                square,
                positive & bounded,
            )

        # A zero made of b: JAX compares on which devices what goes into a loop and what comes out of it varies.
        zero = jnp.where(jnp.isfinite(begin), 0, jnp.nan).astype(begin.dtype)
        first = _Conjugate(jnp.zeros((), jnp.int32), optax.tree.scale(zero, b), b, b, begin, begin >= 0)
        return jax.lax.while_loop(unfinished, step, first).solution

    return solve


class _Conjugate(NamedTuple):
    """State of the conjugate gradient method."""

    steps: jax.Array  # int32[], made so far
    solution: Any  # like b
    residual: Any  # b - H solution
    direction: Any  # like b
    square: jax.Array  # float[], square of the residual's norm
    going: jax.Array  # bool[], whether all curvatures were positive and all residuals bounded


def neumann(*, num_terms: int, step_size: float) -> LinearSolver:
    r"""Builds the truncated Neumann series.

    .. math:: x = \alpha \sum_{i=0}^{j} (I - \alpha H)^i \, b

    It converges to the solution for eigenvalues of H between 0 and 2 over the step size. At a minimum, j terms give
    what backpropagation through j + 1 steps of gradient descent from there gives.

    Args:
      num_terms: j, the products with H.
      step_size: alpha.

    Raises:
      ValueError: if an argument is out of range.

    Example: the inverse of 2 is 0.5 - 0.125 after two terms of the series, whose ratio is 0.5.
      >>> import jax.numpy as jnp
      >>> solve = neumann(num_terms=1, step_size=0.25)
      >>> float(solve(lambda v: 2 * v, jnp.ones(())))
      0.375

    References:
      Lorraine, Vicol, Duvenaud 2019, "Optimizing Millions of Hyperparameters by Implicit Differentiation",
      https://arxiv.org/abs/1911.02590
    """
    num_terms = checks.whole_number("num_terms", num_terms, 0)
    if not 0 < step_size < float("inf"):
        raise ValueError(f"step_size must be positive and finite, got {step_size}.")

    def solve(product, b):
        def add_term(_, carry):
            power, total = carry
            power = optax.tree.add_scale(power, -step_size, product(power))
            return power, optax.tree.add(total, power)

        return optax.tree.scale(step_size, jax.lax.fori_loop(0, num_terms, add_term, (b, b))[1])

    return solve


def identity(*, scale: float = 1.0) -> LinearSolver:
    """Builds the solver that takes `scale` times the identity for the inverse: no product with H at all.

    Example:
      >>> import jax.numpy as jnp
      >>> float(identity()(None, jnp.ones(())))
      1.0

    References:
      Luketina et al. 2016, "Scalable Gradient-Based Tuning of Continuous Regularization Hyperparameters",
      https://arxiv.org/abs/1511.06727
    """
    return lambda product, b: optax.tree.scale(scale, b)


def scaled(solver: LinearSolver, units: Any) -> LinearSolver:
    r"""Builds the solver that works on vectors divided by units s, which preconditions H by their squares.

    .. math:: x = s \, y, \qquad \mathrm{diag}(s) \, H \, \mathrm{diag}(s) \, y = s \, b

    The Neumann series then has the step size :math:`\alpha s^2` for each number, and `identity` is :math:`s^2`.

    Args:
      solver: of the scaled system.
      units: positive numbers, like b.

    Example: the largest entry of H alone, 1000, would need a step size below 0.002.
      >>> import jax.numpy as jnp
      >>> h, units = jnp.array([1.0, 1000.0]), jnp.array([1.0, 0.03])
      >>> solve = scaled(neumann(num_terms=50, step_size=0.5), units)
      >>> print((h * solve(lambda v: h * v, jnp.ones(2))).round(3))
      [1. 1.]
    """
    times = lambda tree: jax.tree.map(lambda x, unit: jnp.asarray(unit, x.dtype) * x, tree, units)
    return lambda product, b: times(solver(lambda v: times(product(times(v))), times(b)))
