"""Solvers of H x = b that see the symmetric matrix H only through its products with vectors.

Each function builds a solver `(product, b) -> x`, where `product` is the function v -> H v on pytrees like b.
"""

import importlib.util
from typing import Any
from typing import Protocol

import jax
import optax


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
    """Builds the conjugate gradient method for a positive definite H, by the package lineax.

    Args:
      max_steps: the most products with H. A result that is not yet within the tolerance is returned as it is.
      tolerance: relative and absolute, of the residual and of the step, where it stops before.
      damping: added to the diagonal of H, which an H with small or slightly negative eigenvalues needs.

    Raises:
      ValueError: if an argument is out of range.
      ModuleNotFoundError: if lineax is not installed.

    Example:
      >>> import jax.numpy as jnp
      >>> solve = conjugate_gradient()
      >>> x = solve(lambda v: {"a": 2 * v["a"], "b": 4 * v["b"]}, {"a": jnp.ones(2), "b": jnp.ones(())})
      >>> float(x["a"][0]), float(x["b"])
      (0.5, 0.25)

    References:
      Rajeswaran et al. 2019, "Meta-Learning with Implicit Gradients", https://arxiv.org/abs/1909.04630
    """
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}.")
    if tolerance < 0 or damping < 0:
        raise ValueError(f"tolerance and damping must not be negative, got {tolerance} and {damping}.")
    if importlib.util.find_spec("lineax") is None:
        raise ModuleNotFoundError(
            "conjugate_gradient needs the package lineax: pip install lineax, or choose neumann or identity."
        )

    def solve(product, b):
        import lineax  # here, so that all else works without it

        damped = lambda v: optax.tree.add_scale(product(v), damping, v)
        shape = jax.eval_shape(damped, b)  # that of b too, and under shard_map with its sharding, which lineax compares
        operator = lineax.FunctionLinearOperator(damped, shape, lineax.positive_semidefinite_tag)
        solver = lineax.CG(rtol=tolerance, atol=tolerance, max_steps=max_steps)
        return lineax.linear_solve(operator, b, solver, throw=False).value

    return solve


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
    if num_terms < 0:
        raise ValueError(f"num_terms must not be negative, got {num_terms}.")
    if not step_size > 0:
        raise ValueError(f"step_size must be positive, got {step_size}.")

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
