"""Checks of a user's functions, made before any work that could be lost."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_ARGUMENTS = {
    "init": ("key",),
    "loss": ("params", "batch", "key"),
    "batches": ("key",),
    "held_out": ("key",),
    "metrics": ("params", "batch"),
}


class RuleError(ValueError):
    """A rule that the user's functions or data break."""


@contextlib.contextmanager
def named(name: str) -> Iterator[None]:
    """Puts a task's name before the messages of `RuleError`.

    Example:
      >>> with named("mine"):
      ...     raise RuleError("there must be data.")
      Traceback (most recent call last):
      meta_train.tasks.user_checks.RuleError: mine: there must be data.
    """
    try:
        yield
    except RuleError as error:
        raise RuleError(f"{name}: {error}") from None


def check_functions(**functions: Callable[..., Any] | None) -> None:
    """Checks that functions can be called with the arguments that they will get.

    Args:
      **functions: the user's functions by name; init and loss must be there.

    Raises:
      RuleError: if one is missing, no function, or takes other arguments.

    Example:
      >>> check_functions(init=lambda key: 0.0, loss=lambda params, batch, key: params)
    """
    for name, function in functions.items():
        if function is None and name not in ("init", "loss"):
            continue
        rule = f"{name} must be a function {name}({', '.join(_ARGUMENTS[name])})"
        if not callable(function):
            raise RuleError(f"{rule}, got {'nothing' if function is None else type(function).__name__}.")
        try:
            signature = inspect.signature(function)
        except ValueError:  # of some functions that are not written in Python
            continue
        try:
            signature.bind(*_ARGUMENTS[name])
        except TypeError as error:
            raise RuleError(f"{rule}, but it is {name}{signature}: {error}.") from None


def check_types(init: Callable[..., Any], loss: Callable[..., Any], batch: Any) -> Any:
    """Traces `init` and `loss`, which takes no time worth mentioning.

    Args:
      init, loss: the user's functions.
      batch: a batch.

    Returns:
      The parameters, as shapes and dtypes.

    Raises:
      RuleError: if what the functions return has the wrong type.
      Exception: what the user's functions raise.
    """
    init_key, loss_key = jax.random.split(jax.random.key(0))
    params = jax.eval_shape(_checked(init, _check_params), init_key)
    jax.eval_shape(_checked(loss, _check_loss), params, batch, loss_key)
    return params


def check_step(
    init: Callable[..., Any],
    loss: Callable[..., Any],
    metrics: Callable[..., Any] | None,
    batch: Any,
    held_out: Any,
    suspect: tuple[str, Any] | None = None,
) -> float:
    """Traces all functions and computes a gradient.

    Args:
      init, loss, metrics: the user's functions.
      batch: a batch to train on.
      held_out: the held-out batch.
      suspect: what to call another batch, and that batch, whose loss may not be finite.

    Returns:
      The loss on the batch at the initial parameters.

    Raises:
      RuleError: if what the functions return has the wrong type, or is not finite.
      Exception: what the user's functions raise.
    """
    check_types(init, loss, batch)
    params = check_types(init, loss, held_out)
    if metrics is not None:
        jax.eval_shape(_checked(metrics, _check_metrics), params, held_out)
    init_key, loss_key = jax.random.split(jax.random.key(0))
    start = jax.jit(jax.vmap(init))(init_key[None])  # as in an evaluation, which vectorizes over seeds
    _check_finite(start, "init(key) must give finite parameters, got {} in {}.")
    step = jax.jit(jax.vmap(jax.value_and_grad(loss), (0, None, 0)))
    value, grads = step(start, batch, loss_key[None])
    _check_value(float(value[0]), "loss(params, batch, key)")
    _check_finite(
        grads,
        "the gradient of loss must be finite at the initial parameters, got {} in {}. "
        "A square root or a norm at zero has no finite gradient, nor has jnp.where around a division by zero.",
    )
    if suspect is not None:
        what, found = suspect
        _check_value(float(step(start, found, loss_key[None])[0][0]), f"loss(params, batch, key) on {what}")
    return float(value[0])


def place(path: Any) -> str:
    """Where in a pytree a leaf is, as text to append, such as `['w']`; "" for a pytree that is the leaf."""
    return jax.tree_util.keystr(path)


def _checked(function, check):
    """The function, with a check of what it returns. In JAX's errors it has its own name."""

    @functools.wraps(function)
    def call(*arguments):
        found = function(*arguments)
        check(found)
        return found

    return call


def _check_params(params):
    leaves = jax.tree.leaves_with_path(params)
    if not leaves:
        raise RuleError("init(key) must return a pytree of floating-point arrays, and it has no array.")
    for path, leaf in leaves:
        if not _is_number(leaf) or not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise RuleError(
                f"init(key) must return floating-point arrays alone, got {_kind(leaf)} at params{place(path)}. "
                "Keep functions, counters, keys and settings out of params: loss can make or know them."
            )
    if not any(np.prod(jnp.shape(leaf)) for _, leaf in leaves):
        raise RuleError("init(key) must return parameters to train, and all of its arrays have no elements.")


def _check_loss(found):
    if not _is_number(found) or not jnp.issubdtype(jnp.result_type(found), jnp.floating) or jnp.shape(found):
        hint = (
            "Take the mean over the batch, with jnp.mean."
            if _is_number(found)
            else ("Other numbers belong into metrics(params, batch).")
        )
        raise RuleError(f"loss(params, batch, key) must return one floating-point number, got {_kind(found)}. {hint}")


def _check_metrics(found):
    rule = "metrics(params, batch) must return a dict of numbers by name"
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise RuleError(f"{rule}, got {_kind(found)}.")
    for name, value in found.items():
        if not _is_number(value) or jnp.shape(value):
            raise RuleError(f"{rule}, got {_kind(value)} for {name!r}. Take a mean, with jnp.mean.")


def _is_number(value):
    """Whether a value is an array, or a number of Python's, and of numbers rather than of keys or text."""
    known = isinstance(value, jax.Array | np.ndarray | np.generic | bool | int | float)
    return known and (jnp.issubdtype(jnp.result_type(value), jnp.number) or jnp.result_type(value) == jnp.bool)


def _check_value(value, what):
    if not np.isfinite(value):
        raise RuleError(
            f"{what} must be finite at the initial parameters, got {value}. "
            "Look for NaN in the data, a logarithm of zero, a division by zero, and parameters that are too large."
        )
    if value <= 0:
        raise RuleError(
            f"{what} must be positive at the initial parameters, got {value:g}: curves and speedups are of logarithms. "
            "Add a constant, which changes no gradient."
        )


def _check_finite(tree, message):
    for path, leaf in jax.tree.leaves_with_path(tree):
        values = np.asarray(leaf.astype(jnp.float32))
        if not np.all(np.isfinite(values)):
            bad = values[~np.isfinite(values)][0]
            raise RuleError(message.format(bad, f"params{place(path)}"))


def _kind(value):
    """A value's type as text, with dtype and shape if it is an array."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"
