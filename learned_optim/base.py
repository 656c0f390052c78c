"""`LearnedOptimizer`, the type that every architecture returns, and `per_tensor`, which builds its transformation."""

from collections.abc import Callable
from collections.abc import Sequence
import functools
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

Theta = Any  # pytree of float32 arrays: the meta-parameters


class LearnedOptimizer(NamedTuple):
    """An optimizer whose update rule is a function of meta-parameters theta.

    Fields:
      init: `(key) -> theta`. Draws initial meta-parameters, a pytree of float32 arrays.
      transform: `(theta, *, num_steps=None) -> optax.GradientTransformationExtraArgs`. The returned transformation
        gives *final* updates: sign and step size are included, so nothing follows it in `optax.chain`. It needs
        `params` in `update`; it accepts the loss as `value=` and ignores extra arguments that it does not know.
        `num_steps` is the number of updates that the user plans to make, for architectures that use it.
      spec: JSON-serialisable dict with `kind`, `feature_version` and the constructor's arguments;
        `learned_optim.optimizers.build(spec)` makes the same optimizer again.

    Example:
      >>> import jax, optax, learned_optim
      >>> optimizer = learned_optim.mlp(hidden_sizes=(4,))
      >>> theta = optimizer.init(jax.random.key(0))
      >>> tx = optax.chain(optax.clip_by_global_norm(1.0), optimizer.transform(theta))
    """

    init: Callable[[jax.Array], Theta]
    transform: Callable[..., optax.GradientTransformationExtraArgs]
    spec: dict[str, Any]


class PerTensorState(NamedTuple):
    """State of a transformation made by `per_tensor`."""

    step: jax.Array  # int32[], updates made so far
    slots: tuple[Any, ...]  # one pytree per slot, each with the structure of params


def per_tensor(
    slots: Sequence[Callable[[jax.Array], jax.Array]],
    rule: Callable[..., tuple[jax.Array, tuple[jax.Array, ...]]],
) -> optax.GradientTransformationExtraArgs:
    """Builds a transformation that applies one rule to every tensor by itself.

    Args:
      slots: one function per state array, `(param) -> array`; each slot becomes a pytree shaped like params.
      rule: `(grad, param, slots, step) -> (update, slots)` with float32 `grad`, `param` and `update` of one shape,
        `slots` a tuple of arrays, and `step` a float32 scalar that is 0 at the first update.

    Returns:
      A transformation whose updates have the dtype of their parameter. Arithmetic is in float32. Tensors without
      elements get empty updates; `None` leaves stay `None`. NaN in a gradient gives NaN in its tensor's update and
      state, as with every optax optimizer: wrap in `optax.apply_if_finite` to skip such steps.

    Raises:
      ValueError: in `update`, if params is None, or if gradients and params differ in structure or shapes.
      TypeError: in `init`, if a parameter is not a real floating-point array.
    """

    def init(params):
        jax.tree_util.tree_map_with_path(_check_dtype, params)
        return PerTensorState(jnp.zeros((), jnp.int32), tuple(jax.tree.map(slot, params) for slot in slots))

    def update(updates, state, params=None, **extra_args):
        del extra_args  # `value` and the like: part of the contract, not of these rules
        _check_update(updates, params)
        step = state.step.astype(jnp.float32)
        treedef = jax.tree.structure(params)
        columns = [treedef.flatten_up_to(tree) for tree in (updates, params, *state.slots)]
        results = [_apply(rule, step, *tensor) for tensor in zip(*columns, strict=True)]
        new_updates = treedef.unflatten([new for new, _ in results])
        new_slots = tuple(treedef.unflatten([made[i] for _, made in results]) for i in range(len(slots)))
        return new_updates, PerTensorState(state.step + 1, new_slots)

    return optax.GradientTransformationExtraArgs(init, update)


def check_theta(theta: Theta, init: Callable[[jax.Array], Theta], kind: str) -> None:
    """Raises ValueError unless theta has the structure and shapes that `init` of the architecture `kind` gives."""
    expected, actual = _abstract(init), theta
    if jax.tree.structure(expected) != jax.tree.structure(actual):
        raise ValueError(
            f"theta must come from the init of this {kind!r} optimizer: expected the structure "
            f"{jax.tree.structure(expected)}, got {jax.tree.structure(actual)}. "
            "Build the optimizer with the sizes that theta was made with, or load both with learned_optim.load."
        )
    for (path, want), have in zip(jax.tree.leaves_with_path(expected), jax.tree.leaves(actual), strict=True):
        if jnp.shape(have) != want.shape:
            raise ValueError(
                f"theta must come from the init of this {kind!r} optimizer: {jax.tree_util.keystr(path)} should have "
                f"shape {want.shape}, got {jnp.shape(have)}. Build the optimizer with the sizes that theta was made "
                "with, or load both with learned_optim.load."
            )


@functools.lru_cache(maxsize=64)
def _abstract(init):
    return jax.eval_shape(init, jax.random.key(0))


def _apply(rule, step, grad, param, *slots):
    grad, param = jnp.asarray(grad), jnp.asarray(param)
    if param.size == 0:
        return jnp.zeros_like(param), slots
    new, slots = rule(grad.astype(jnp.float32), param.astype(jnp.float32), slots, step)
    return new.astype(param.dtype), slots


def _check_dtype(path, param):
    dtype = jnp.result_type(param)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"a learned optimizer updates real floating-point parameters: params{jax.tree_util.keystr(path)} has "
            f"dtype {dtype}. Leave it out of params, or wrap the optimizer in optax.masked."
        )


def _check_update(updates, params):
    if params is None:
        raise ValueError(
            "a learned optimizer needs the parameters to compute an update, got params=None: "
            "call tx.update(grads, state, params)."
        )
    if jax.tree.structure(updates) != jax.tree.structure(params):
        raise ValueError(
            "gradients and params must have the same structure, got "
            f"{jax.tree.structure(updates)} and {jax.tree.structure(params)}: "
            "differentiate with respect to the params that you pass to update."
        )
    for (path, grad), param in zip(jax.tree.leaves_with_path(updates), jax.tree.leaves(params), strict=True):
        if jnp.shape(grad) != jnp.shape(param):
            raise ValueError(
                f"a gradient must have the shape of its parameter: at {jax.tree_util.keystr(path)} the gradient has "
                f"shape {jnp.shape(grad)}, the parameter {jnp.shape(param)}. Average per-example gradients first."
            )
