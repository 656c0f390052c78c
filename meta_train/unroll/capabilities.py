"""What an estimator may require of a problem: declared structure, steps, and an inner loss that depends on theta."""

from typing import Any
from typing import Literal
from typing import overload

import jax
import jax.numpy as jnp

from meta_train.unroll import episode_data
from meta_train.unroll.problem import Bilevel
from meta_train.unroll.problem import Flow
from meta_train.unroll.problem import Momentum
from meta_train.unroll.problem import Problem

_MEANINGS = {
    "bilevel": "an inner and an outer loss that theta enters",
    "momentum": "steps of SGD with momentum",
    "flow": "a differential equation that the inner parameters follow",
}
_REMEDIES = {
    "bilevel": "where theta acts through the steps alone, as the weights of an optimizer do, the estimate would be "
    "zero. Give a Bilevel, or use an estimator that unrolls the steps, such as pes or full_backprop",
    "momentum": "build it with problems.momentum_descent, or use an estimator that needs no inverse step, such as "
    "full_backprop",
    "flow": "build it with problems.gradient_flow, or use an estimator that unrolls the steps, such as full_backprop",
}


@overload
def require(problem: Problem | Bilevel, structure: Literal["bilevel"], estimator: str) -> Bilevel: ...
@overload
def require(problem: Problem | Bilevel, structure: Literal["momentum"], estimator: str) -> Momentum: ...
@overload
def require(problem: Problem | Bilevel, structure: Literal["flow"], estimator: str) -> Flow: ...
def require(problem: Problem | Bilevel, structure: str, estimator: str) -> Any:
    """Returns a problem's structure.

    Args:
      problem: what the estimator was given.
      structure: the field's name: "bilevel", "momentum" or "flow".
      estimator: the estimator's name, for the error.

    Raises:
      TypeError: if the problem is a `Bilevel`, which has no steps.
      ValueError: if the problem does not declare that structure.

    Example:
      >>> problem = Problem(init=lambda *_: 0.0, step=lambda *_: (0.0, 0.0), name="flat")
      >>> try:
      ...     require(problem, "flow", "adjoint")
      ... except ValueError as error:
      ...     print(str(error)[:61])
      adjoint needs a problem with the structure `flow` (a differen
    """
    found = None if isinstance(problem, Bilevel) else getattr(problem, structure)
    if found is None:
        error, kind = (TypeError, "a Bilevel") if isinstance(problem, Bilevel) else (ValueError, "a Problem")
        raise error(
            f"{estimator} needs a problem with the structure `{structure}` ({_MEANINGS[structure]}), which "
            f"{problem.name!r}, {kind}, lacks: {_REMEDIES[structure]}."
        )
    return found


def require_steps(problem: Problem | Bilevel, estimator: str) -> None:
    """Raises TypeError if an estimator that unrolls steps is given a `Bilevel`, which has none."""
    if isinstance(problem, Bilevel):
        raise TypeError(
            f"{estimator} unrolls the steps of a Problem, and {problem.name!r} is a Bilevel: give "
            "problems.unrolled(bilevel, inner_optimizer)."
        )


def require_bilevel(problem: Problem | Bilevel, estimator: str) -> Bilevel:
    """Returns the `Bilevel` that a problem is or declares; raises ValueError if there is none."""
    return problem if isinstance(problem, Bilevel) else require(problem, "bilevel", estimator)


def check_theta_matters(bilevel: Bilevel, theta: Any, estimator: str) -> None:
    """Raises ValueError if the inner loss's gradient does not depend on theta, so that the estimate would be zero.

    It compiles and computes nothing: the dependence is read from the traced program.
    """
    key = jax.random.key(0)

    def gradient(theta, params, data):
        _, data = episode_data.draw(key, bilevel.sample, data)
        return jax.grad(bilevel.inner_loss)(params, theta, key, data)

    shape = lambda x, *leading: jax.ShapeDtypeStruct((*leading, *jnp.shape(x)), jnp.result_type(x))
    single = jax.tree.map(shape, theta)
    params = jax.eval_shape(bilevel.init, key, single)
    jax.eval_shape(gradient, single, params, bilevel.data)  # errors of the loss itself show here
    mapped = jax.vmap(gradient, in_axes=(0, None, None), out_axes=None)
    try:
        jax.eval_shape(mapped, jax.tree.map(lambda x: shape(x, 2), theta), params, bilevel.data)
    except (ValueError, NotImplementedError):  # vmap refuses to leave an axis out of what varies along it
        return
    raise ValueError(
        f"{estimator} differentiates the gradient of the inner loss with respect to theta, but that of "
        f"{bilevel.name!r} does not depend on theta, so the estimate would be zero: let theta enter inner_loss, or use "
        "an estimator that unrolls the steps, such as pes or full_backprop."
    )
