"""Checks of user input. Each error states the rule, the value received, and the fix."""

from collections.abc import Callable
import functools
import operator
from typing import Any
import warnings

import jax
import jax.numpy as jnp
import numpy as np

MOMENT_DTYPES = (jnp.float32, jnp.bfloat16)


def whole_number(name: str, value: Any, minimum: int, note: str = "") -> int:
    """Returns a whole number as a Python int.

    Args:
      name: name of the argument, for the error message.
      value: an int, or a NumPy integer.
      minimum: the smallest allowed value.
      note: added to the error message, such as what to pass instead.

    Raises:
      TypeError: if the value is not a whole number.
      ValueError: if the value is too small.

    Example:
      >>> import numpy as np
      >>> whole_number("lstm_size", np.int64(8), 1)
      8
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{name} must be a whole number, at least {minimum}, got {value!r}.{note and ' ' + note}")
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {number}.{note and ' ' + note}")
    return number


def real_number(name: str, value: Any) -> float:
    """Returns a finite number as a Python float, or raises ValueError or TypeError."""
    try:
        number = float("nan") if isinstance(value, (str, bytes)) else float(value)
    except TypeError:
        raise TypeError(f"{name} must be a number, got {value!r}.") from None
    except OverflowError:  # a whole number beyond the range of floats
        number = float("inf")
    if not abs(number) < float("inf"):
        raise ValueError(f"{name} must be a finite number, got {value!r}.")
    return number


def factor(name: str, value: Any, note: str = "") -> Any:
    """Returns a factor that a user may pass: a finite number as a float, or a JAX scalar as it is."""
    if isinstance(value, jax.Array):
        if value.shape != () or not jnp.issubdtype(value.dtype, jnp.number):
            raise TypeError(f"{name} must be a scalar, got an array of {value.dtype} with shape {value.shape}.")
        return value
    if callable(value):
        raise TypeError(f"{name} must be a number, got the function {value!r}.{note and ' ' + note}")
    return real_number(name, value)


def sizes(hidden_sizes: Any) -> tuple[int, ...]:
    """Returns the sizes of hidden layers as a tuple of ints, or raises ValueError if they are not valid sizes."""
    try:
        found = tuple(whole_number("a size", size, 1) for size in hidden_sizes)
    except (TypeError, ValueError):
        found = ()
    if not found:
        raise ValueError(
            "hidden_sizes must be a non-empty sequence of whole numbers from 1 on, such as (32, 32), "
            f"got {hidden_sizes!r}."
        )
    return found


def flag(name: str, value: Any) -> bool:
    """Returns a flag as a Python bool, or raises TypeError if it is neither True nor False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}.")
    return bool(value)


def feature_version(value: Any, oldest: int, newest: int) -> int:
    """Returns the feature version of an architecture, or raises ValueError if it is not among those it can build."""
    if isinstance(value, bool) or value not in range(oldest, newest + 1):
        known = " or ".join(map(str, range(oldest, newest + 1)))
        raise ValueError(
            f"feature_version must be {known}, got {value!r}: install the version of learned_optim that saved the file."
        )
    return int(value)


def num_steps(value: Any) -> int | jax.Array | None:
    """Returns the planned number of updates: a Python int, None, or a JAX scalar unchanged.

    A JAX scalar may be traced, so its value is not checked. In meta-training a value below 1 means None.
    """
    if value is None or isinstance(value, jax.Array):
        if value is not None and (value.shape != () or jnp.issubdtype(value.dtype, jnp.complexfloating)):
            raise TypeError(f"num_steps must be a scalar, got an array of {value.dtype} with shape {value.shape}.")
        return value
    note = "It is the planned number of updates: round it, or pass None if you do not know it."
    return whole_number("num_steps", value, 1, note)


def moment_dtype(value: Any, mu_dtype: Any = None) -> jnp.dtype:
    """Returns the dtype of stored averages of gradients. None means float32.

    Args:
      value: the argument `moment_dtype` of a public function that the user called.
      mu_dtype: its argument `mu_dtype`, optax's name for the same option.

    Raises:
      TypeError: if the dtype is neither float32 nor bfloat16, or if both arguments are given.
    """
    if mu_dtype is not None:
        if value is not None:
            raise TypeError(f"mu_dtype={mu_dtype!r} is an alias of moment_dtype={value!r}: pass moment_dtype alone.")
        warnings.warn("mu_dtype is a deprecated alias: pass moment_dtype.", DeprecationWarning, stacklevel=3)
        value = mu_dtype
    try:
        dtype = jnp.dtype(jnp.float32 if value is None else value)
    except TypeError:
        dtype = None
    if dtype is None or dtype not in [jnp.dtype(allowed) for allowed in MOMENT_DTYPES]:
        raise TypeError(
            f"moment_dtype must be jnp.float32, jnp.bfloat16 or None (float32), got {value!r}. "
            "The range of float16 is too narrow for gradients, and a wider dtype would gain nothing, because "
            "arithmetic is in float32."
        )
    return dtype


def theta(value: Any, init: Callable[[jax.Array], Any], kind: str) -> None:
    """Raises ValueError unless theta has the structure and shapes that `init` of the architecture `kind` returns."""
    expected = abstract_theta(init)
    if jax.tree.structure(expected) != jax.tree.structure(value):
        raise ValueError(
            f"theta must come from the init of this {kind!r} optimizer: expected the structure "
            f"{jax.tree.structure(expected)}, got {jax.tree.structure(value)}. "
            "Build the optimizer with the sizes for which theta was made, or load both with learned_optim.load."
        )
    for (path, want), have in zip(jax.tree.leaves_with_path(expected), jax.tree.leaves(value), strict=True):
        if jnp.shape(have) != want.shape:
            raise ValueError(
                f"theta must come from the init of this {kind!r} optimizer: {jax.tree_util.keystr(path)} should have "
                f"shape {want.shape}, got {jnp.shape(have)}. Build the optimizer with the sizes for which theta "
                "was made, or load both with learned_optim.load."
            )


@functools.lru_cache(maxsize=64)
def abstract_theta(init: Callable[[jax.Array], Any]) -> Any:
    """Returns structure, shapes and dtypes of theta. Nothing is computed, so no JAX backend starts."""
    # Without the shardings of the mesh, if any, inside of which it is first asked for: the result is kept.
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), jax.eval_shape(lambda: init(jax.random.key(0)))
    )


def params(tree: Any) -> None:
    """Raises TypeError with the name of the leaf unless all parameters are real floating-point arrays."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        try:
            dtype = jnp.result_type(leaf)
        except TypeError:
            dtype = None
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            what = f"is {leaf!r:.60}" if dtype is None else f"has dtype {dtype}"
            raise TypeError(
                f"a learned optimizer updates real floating-point parameters: params{jax.tree_util.keystr(path)} "
                f"{what}. Put None in its place and keep the leaf in a tree of its own: use "
                "eqx.partition(model, eqx.is_inexact_array) with equinox, jax.tree.map elsewhere. Differentiate with "
                "respect to the tree that contains None, and pass that tree to init and update."
            )


def loss(value: Any) -> None:
    """Raises an error unless the loss that was passed as `value=` is None or one real number."""
    if value is None:
        return
    try:
        shape, dtype = jnp.shape(value), None if isinstance(value, (str, bytes)) else jnp.result_type(value)
    except TypeError:
        shape, dtype = (), None
    if dtype is None or not jnp.issubdtype(dtype, jnp.number):
        raise TypeError(f"value must be the loss, a number, got {value!r}.")
    if shape != ():
        raise ValueError(f"value must be a scalar loss, got an array of shape {shape}: average it first.")
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(f"value must be a real loss, got dtype {dtype}: take its real part.")


_STATE = "Call tx.init(params) with the parameters that you pass to update, or restore the state that belongs to them."


def state_structure(given: Any, expected: Any, is_state: bool) -> None:
    """Raises ValueError unless a state has the tree structure that `init` of the parameters gives."""
    if not is_state or given != expected:
        raise ValueError(
            f"state was made by another optimizer or for other parameters: expected slots {expected}, got {given}. "
            f"{_STATE}"
        )


def state_shape(given: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raises ValueError unless an array of the state has the shape that `init` of the parameters gives."""
    if given != expected:
        raise ValueError(
            f"state was made for other parameters: an array of it should have shape {expected}, got {given}. {_STATE}"
        )


def gradients(grads: Any, params: Any) -> None:
    """Raises an error unless parameters are given and gradients are real, of their structure and shapes."""
    if params is None:
        raise ValueError(
            "a learned optimizer needs the parameters to compute an update, got params=None: "
            "call tx.update(grads, state, params)."
        )
    if jax.tree.structure(grads) != jax.tree.structure(params):
        raise ValueError(
            "gradients and params must have the same structure, got "
            f"{jax.tree.structure(grads)} and {jax.tree.structure(params)}: "
            "differentiate with respect to the params that you pass to update."
        )
    for (path, grad), param in zip(jax.tree.leaves_with_path(grads), jax.tree.leaves(params), strict=True):
        if jnp.shape(grad) != jnp.shape(param):
            raise ValueError(
                f"a gradient must have the shape of its parameter: at {jax.tree_util.keystr(path)} the gradient has "
                f"shape {jnp.shape(grad)}, the parameter {jnp.shape(param)}. Average per-example gradients first."
            )
        if not (hasattr(grad, "dtype") and jnp.issubdtype(grad.dtype, jnp.floating)):
            raise TypeError(
                f"a gradient must be a real floating-point array: at {jax.tree_util.keystr(path)} it is of "
                f"{getattr(grad, 'dtype', type(grad))}. Differentiate a real loss with respect to real parameters."
            )
