"""`LearnedOptimizer`, the type that every architecture returns, and `define`, which makes one of an update rule."""

from collections.abc import Callable
from collections.abc import Sequence
import functools
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

Theta = Any  # pytree of float32 arrays: the meta-parameters


class LearnedOptimizer(NamedTuple):
    """An optimizer whose update rule is a function of meta-parameters theta.

    Fields:
      init: `(key) -> theta`. Draws initial meta-parameters, a pytree of float32 arrays.
      transform: `(theta, *, num_steps=None) -> optax.GradientTransformationExtraArgs`. The returned transformation
        gives *final* updates: sign and step size are included, so nothing follows it in `optax.chain`. It needs
        `params` in `update`; it accepts the loss as `value=` and ignores extra arguments that it does not know.
        `num_steps` is the number of updates that the user plans to make, for architectures that use it: a Python int,
        None if it is not known, or in meta-training a traced integer, of which a value below 1 counts as None.
        Further options, the same for every architecture:
          step_scale: a factor on the updates, a float or an optax schedule `(count) -> factor`.
          weight_decay: decoupled decay; `weight_decay * step_scale * param` is taken off at every step.
          mask: which parameters decay, a tree of bools or a function of params, as in `optax.adamw`.
          moment_dtype: dtype in which averages of gradients are stored. Second moments and the state of recurrent
            networks stay float32, for they would not move in bfloat16. Momenta of decay above .99 lose precision there.
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


class OptimizerState(NamedTuple):
    """State of a learned optimizer's transformation."""

    step: jax.Array  # int32[], updates made so far
    slots: tuple[Any, ...]  # one pytree per slot, each with the structure of params
    shared: Any  # what belongs to no tensor or to all of them together, such as a recurrent network's state


class Rule(NamedTuple):
    """How an architecture updates the tensors of a model: what `define` makes a transformation of.

    Tensors without elements are left out of all lists. Arithmetic is in float32.

    Fields:
      slots: one function per state array of a tensor, `(param) -> array`. `momentum` marks those that a user may want
        in another dtype; `zeros` makes a float32 array that stays float32.
      update: `(grads, params, slots, shared, step, loss) -> (updates, slots, shared)` with lists that have one entry
        per tensor: float32 arrays, and for `slots` tuples of arrays. `step` is a float32 scalar, 0 at the first
        update; `loss` is a float32 scalar, or None if the user did not pass `value=`.
      shared: `(params) -> pytree`, the first value of `shared`.
    """

    slots: Sequence[Callable[[jax.Array], jax.Array]]
    update: Callable[..., tuple[list[jax.Array], list[tuple[jax.Array, ...]], Any]]
    shared: Callable[[list[jax.Array]], Any] = lambda params: ()


def per_tensor(
    slots: Sequence[Callable[[jax.Array], jax.Array]],
    rule: Callable[..., tuple[jax.Array, tuple[jax.Array, ...]]],
) -> Rule:
    """A rule that treats every tensor by itself: `(grad, param, slots, step) -> (update, slots)`."""

    def update(grads, params, slots, shared, step, loss):
        del loss
        results = [rule(*tensor, step) for tensor in zip(grads, params, slots, strict=True)]
        return [new for new, _ in results], [made for _, made in results], shared

    return Rule(slots, update)


def zeros(param: jax.Array) -> jax.Array:
    """A slot: float32 zeros in the shape of the parameter, sharded as it is."""
    return jnp.zeros_like(param, jnp.float32)


def momentum(param: jax.Array) -> jax.Array:
    """A slot like `zeros` for an average of gradients, which is stored in the user's `moment_dtype`."""
    return zeros(param)


def define(
    spec: dict[str, Any], init: Callable[[jax.Array], Theta], rule: Callable[[Theta, jax.Array], Rule]
) -> LearnedOptimizer:
    """Makes a `LearnedOptimizer` of an architecture's initial theta and its rule, with the options that all share.

    Args:
      spec: `kind`, `feature_version` and the constructor's arguments.
      init: `(key) -> theta`.
      rule: `(theta, horizon) -> Rule`. `horizon` is num_steps as a float32 scalar, 0 if it is not known.
    """

    def transform(
        theta: Theta,
        *,
        num_steps: int | jax.Array | None = None,
        step_scale: float | Callable[[jax.Array], jax.Array] | None = None,
        weight_decay: float | None = None,
        mask: Any | Callable[[Any], Any] | None = None,
        moment_dtype: Any = jnp.float32,
    ) -> optax.GradientTransformationExtraArgs:
        check_theta(theta, init, spec["kind"])
        tx = _transformation(rule(theta, _horizon(num_steps)), _check_moment_dtype(moment_dtype))
        if mask is not None and weight_decay is None:
            raise ValueError("mask says which parameters decay, so it needs weight_decay: pass both or neither.")
        if weight_decay is None and step_scale is None:
            return tx
        parts = [tx]
        if weight_decay is not None:
            parts.append(optax.add_decayed_weights(-weight_decay, mask))
        if step_scale is not None:
            parts.append(optax.scale_by_learning_rate(step_scale, flip_sign=False))
        return optax.chain(*parts)

    return LearnedOptimizer(init, transform, spec)


def _transformation(rule, moment_dtype):
    dtypes = [moment_dtype if slot is momentum else jnp.float32 for slot in rule.slots]

    def init(params):
        jax.tree_util.tree_map_with_path(_check_dtype, params)
        slots = tuple(
            jax.tree.map(lambda param, slot=slot, dtype=dtype: slot(jnp.asarray(param)).astype(dtype), params)
            for slot, dtype in zip(rule.slots, dtypes, strict=True)
        )
        tensors = [jnp.asarray(param) for param in jax.tree.leaves(params) if jnp.size(param)]
        shared = jax.tree.map(jnp.copy, rule.shared(tensors))  # no buffer twice or of theta: the state may be donated
        return OptimizerState(jnp.zeros((), jnp.int32), slots, shared)

    def update(updates, state, params=None, *, value=None, **extra_args):
        del extra_args  # what other transformations in a chain may want
        _check_update(updates, params)
        treedef = jax.tree.structure(params)
        rows = zip(*(treedef.flatten_up_to(tree) for tree in (updates, params, *state.slots)), strict=True)
        tensors = [tuple(jnp.asarray(array) for array in row) for row in rows]
        full = [tensor for tensor in tensors if tensor[1].size]
        made, new_slots, shared = rule.update(
            [tensor[0].astype(jnp.float32) for tensor in full],
            [tensor[1].astype(jnp.float32) for tensor in full],
            [tuple(slot.astype(jnp.float32) for slot in tensor[2:]) for tensor in full],
            state.shared,
            state.step.astype(jnp.float32),
            None if value is None else jnp.asarray(value).astype(jnp.float32),
        )
        results = zip(made, new_slots, strict=True)
        columns = [_stored(next(results), tensor, dtypes) if tensor[1].size else tensor[1:] for tensor in tensors]
        first, *rest = [treedef.unflatten([column[i] for column in columns]) for i in range(1 + len(dtypes))]
        return first, OptimizerState(state.step + 1, tuple(rest), shared)

    return optax.GradientTransformationExtraArgs(init, update)


def _stored(result, tensor, dtypes):
    """An update in the dtype of its parameter, and the slots in theirs."""
    new, slots = result
    return new.astype(tensor[1].dtype), *(slot.astype(dtype) for slot, dtype in zip(slots, dtypes, strict=True))


def _horizon(num_steps):
    if isinstance(num_steps, (int, np.integer)) and num_steps < 1:
        raise ValueError(f"num_steps must be the planned number of updates, at least 1, or None, got {num_steps}.")
    return jnp.asarray(0 if num_steps is None else num_steps).astype(jnp.float32)


def _check_moment_dtype(dtype):
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"moment_dtype must be a real floating-point dtype such as jnp.bfloat16, got {dtype!r}.")
    return jnp.dtype(dtype)


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
