"""An optax transformation of an architecture's rule: its state, the state at first, the update."""

from collections.abc import Callable
from collections.abc import Sequence
import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_optim import checks
from learned_optim import explicit_axes
from learned_optim.rule import Rule
from learned_optim.rule import momentum


class OptimizerState(NamedTuple):
    """State of a learned optimizer's transformation."""

    step: jax.Array  # int32[], updates made so far
    slots: tuple[Any, ...]  # one pytree per slot, each with the structure of params
    tensor_slots: tuple[jax.Array, ...]  # float32[total] each: those of all tensors with elements, end to end
    shared: Any  # what belongs to no tensor or to all of them together, such as a recurrent network's state


def transformation(
    make_rule: Callable[[Any, jax.Array], Rule], theta: Any, num_steps: Any, moment_dtype: jnp.dtype
) -> optax.GradientTransformationExtraArgs:
    """Makes a transformation that holds no JAX array but those that the caller passes: build it anywhere, keep it.

    The rule is made in each `init` and `update`, so that what it computes of theta belongs to the trace that uses it.

    Args:
      make_rule: `(theta, horizon) -> Rule`, with a horizon as a float32 scalar, 0 if it is not known.
      theta: meta-parameters, NumPy or JAX arrays.
      num_steps: as `checks.num_steps` gives it.
      moment_dtype: of the slots that are `momentum`.
    """
    horizon = num_steps if isinstance(num_steps, jax.Array) else np.float32(num_steps or 0)
    rule_of = lambda theta, horizon: make_rule(jax.tree.map(jnp.asarray, theta), jnp.asarray(horizon, jnp.float32))
    dtypes_of = lambda rule: [moment_dtype if slot is momentum else jnp.dtype(jnp.float32) for slot in rule.slots]

    def init(params):
        checks.params(params)
        if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(params)):
            return jax.eval_shape(init, params)  # shapes in, shapes out: part of the state is made of the values

        def first(theta, horizon, params):
            rule = rule_of(theta, horizon)
            return _first_state(rule, dtypes_of(rule), params)

        mesh = explicit_axes.mesh_of(params)
        if mesh is not None:
            out = _shardings(params, mesh, len(rule_of(theta, horizon).slots))
            first = explicit_axes.automatic(first, mesh, out)
        return first(theta, horizon, params)

    def update(updates, state, params=None, *, value=None, **extra_args):
        del extra_args  # what other transformations in a chain may want
        checks.gradients(updates, params)

        def advance(theta, horizon, grads, state, params, loss):
            rule = rule_of(theta, horizon)
            return _advance(rule, dtypes_of(rule), grads, state, params, loss)

        mesh = explicit_axes.mesh_of((updates, params))
        if mesh is not None:
            out = _shardings(params, mesh, len(state.slots))
            advance = explicit_axes.automatic(advance, mesh, (explicit_axes.like(params, mesh), out))
        return advance(theta, horizon, updates, state, params, value)

    return optax.GradientTransformationExtraArgs(init, update)


def _shardings(params, mesh, num_slots):
    """The shardings of a state, on a mesh with explicit axes."""
    replicated = jax.NamedSharding(mesh, jax.P())
    return OptimizerState(replicated, (explicit_axes.like(params, mesh),) * num_slots, replicated, replicated)


def _first_state(rule, dtypes, params):
    slots = tuple(
        jax.tree.map(lambda param, slot=slot, dtype=dtype: slot(jnp.asarray(param)).astype(dtype), params)
        for slot, dtype in zip(rule.slots, dtypes, strict=True)
    )
    tensors = [jnp.asarray(param) for param in jax.tree.leaves(params) if _has_elements(param)]
    tensor_slots = tuple(_end_to_end([slot(param) for param in tensors]) for slot in rule.tensor_slots)
    shared = jax.tree.map(jnp.copy, rule.shared(tensors))  # no buffer twice or of theta: the state may be donated
    return OptimizerState(jnp.zeros((), jnp.int32), slots, tensor_slots, shared)


def _advance(rule, dtypes, grads, state, params, loss):
    """The updates of all parameters, and the new state."""
    treedef = jax.tree.structure(params)
    rows = zip(*(treedef.flatten_up_to(tree) for tree in (grads, params, *state.slots)), strict=True)
    tensors = [tuple(jnp.asarray(array) for array in row) for row in rows]
    full = [tensor for tensor in tensors if _has_elements(tensor[1])]
    in_float32 = lambda arrays: tuple(array.astype(jnp.float32) for array in arrays)
    parted = [_parted(slot, vector, [tensor[1] for tensor in full]) for slot, vector in _tensor_slots(rule, state)]
    made, new_slots, shared = rule.update(
        [tensor[0].astype(jnp.float32) for tensor in full],
        [tensor[1].astype(jnp.float32) for tensor in full],
        [(*in_float32(tensor[2:]), *own) for tensor, own in zip(full, _rows(parted, len(full)), strict=True)],
        state.shared,
        state.step.astype(jnp.float32),
        None if loss is None else jnp.asarray(loss).astype(jnp.float32),
    )
    results = zip(made, new_slots, strict=True)
    columns = [_stored(next(results), tensor, dtypes) if _has_elements(tensor[1]) else tensor[1:] for tensor in tensors]
    first, *rest = [treedef.unflatten([column[i] for column in columns]) for i in range(1 + len(dtypes))]
    tensor_slots = tuple(_end_to_end([own[len(dtypes) + i] for own in new_slots]) for i in range(len(parted)))
    return first, OptimizerState(optax.safe_increment(state.step), tuple(rest), tensor_slots, shared)


def _stored(result, tensor, dtypes):
    """An update in the dtype of its parameter, and the slots in theirs."""
    new, slots = result
    stored = (slot.astype(dtype) for slot, dtype in zip(slots[: len(dtypes)], dtypes, strict=True))
    return new.astype(tensor[1].dtype), *stored


def _has_elements(param):
    return math.prod(jnp.shape(param)) > 0


def _tensor_slots(rule, state):
    return zip(rule.tensor_slots, state.tensor_slots, strict=True)


def _rows(columns, length):
    """For each tensor its entry of every column."""
    return [tuple(column[i] for column in columns) for i in range(length)]


def _end_to_end(arrays: Sequence[jax.Array]) -> jax.Array:
    """Arrays of any shape in one vector."""
    return jnp.concatenate([jnp.zeros((0,), jnp.float32), *(jnp.ravel(array) for array in arrays)])


def _parted(slot, vector, params):
    """Undoes `_end_to_end` for the arrays that a tensor slot made of these parameters."""
    shapes = [jax.eval_shape(slot, param).shape for param in params]
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = jnp.split(vector, ends[:-1]) if shapes else []
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
