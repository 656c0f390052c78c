"""Turns the rule of an architecture into an optax transformation."""

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
from learned_optim.rule import MakeRule
from learned_optim.rule import TensorSlot
from learned_optim.rule import Theta
from learned_optim.rule import momentum


class OptimizerState(NamedTuple):
    """State of a learned optimizer's transformation."""

    step: jax.Array  # int32[], number of updates made so far
    slots: Any  # as `Rule.slots`: for a `SlotMaker` a pytree like params, for a `TensorSlot` float32[total], end to end
    shared: Any  # state that all tensors share, such as that of a recurrent network


def transformation(
    make_rule: MakeRule, theta: Theta, num_steps: int | jax.Array | None, moment_dtype: jnp.dtype
) -> optax.GradientTransformationExtraArgs:
    """Makes a transformation that creates no JAX array until it is used, so it may be built anywhere, in a trace too.

    `init` and `update` each make the rule anew. Arrays that the rule computes from theta therefore always belong to the
    trace that uses them.

    Args:
      make_rule: `(theta, horizon) -> Rule`. The horizon is a float32 scalar, 0 if it is not known.
      theta: meta-parameters, NumPy or JAX arrays.
      num_steps: the value that `checks.num_steps` returned.
      moment_dtype: dtype of the slots that are `momentum`.
    """
    horizon = num_steps if isinstance(num_steps, jax.Array) else np.float32(num_steps or 0)
    rule_of = lambda theta, horizon: make_rule(jax.tree.map(jnp.asarray, theta), jnp.asarray(horizon, jnp.float32))

    def init(params):
        checks.params(params)
        if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(params)):
            return jax.eval_shape(init, params)  # shapes in, shapes out: there are no values to compute with

        first = lambda theta, horizon, params: _first_state(rule_of(theta, horizon), moment_dtype, params)
        mesh = explicit_axes.mesh_of(params)
        if mesh is not None:
            first = explicit_axes.automatic(first, mesh, _shardings(rule_of(theta, horizon), params, mesh))
        return first(theta, horizon, params)

    def update(updates, state, params=None, *, value=None, **extra_args):
        del extra_args  # they are for other transformations in a chain
        checks.gradients(updates, params)
        checks.loss(value)

        advance = lambda theta, horizon, *rest: _advance(rule_of(theta, horizon), moment_dtype, *rest)
        mesh = explicit_axes.mesh_of((updates, params))
        if mesh is not None:
            out = explicit_axes.like(params, mesh), _shardings(rule_of(theta, horizon), params, mesh)
            advance = explicit_axes.automatic(advance, mesh, out)
        return advance(theta, horizon, updates, state, params, value)

    return optax.GradientTransformationExtraArgs(init, update)


def _shardings(rule, params, mesh):
    """The shardings of an `OptimizerState` on a mesh with explicit axes, in its place."""
    replicated, like_params = jax.NamedSharding(mesh, jax.P()), explicit_axes.like(params, mesh)
    of_slot = lambda slot: replicated if isinstance(slot, TensorSlot) else like_params
    slots = jax.tree.map(of_slot, rule.slots)
    return OptimizerState(replicated, slots, replicated)  # pyright: ignore[reportArgumentType] (shardings, not arrays)


def _first_state(rule, moment_dtype, params):
    tensors = [jnp.asarray(param) for param in jax.tree.leaves(params) if _has_elements(param)]
    # In `jax.shard_map` a constant is of another type than arrays that differ between devices, as state does after one
    # update. Adding a zero that is made of the parameters gives it that type from the start, so loops can carry it.
    zero = sum((jnp.zeros_like(param, jnp.float32, shape=()) for param in tensors), jnp.zeros((), jnp.float32))

    def first(slot):
        if isinstance(slot, TensorSlot):
            return _end_to_end([slot.make(param) for param in tensors]) + zero
        return jax.tree.map(lambda param: _stored(slot, slot(jnp.asarray(param)), moment_dtype), params)

    # The sum is a copy: no buffer occurs twice or belongs to theta, because the user may donate the state.
    shared = jax.tree.map(lambda leaf: leaf + zero.astype(leaf.dtype), rule.shared(tensors))
    return OptimizerState(jnp.zeros((), jnp.int32), jax.tree.map(first, rule.slots), shared)


def _advance(rule, moment_dtype, grads, state, params, loss):
    """Returns the updates of all parameters and the new state."""
    slots, slots_structure = jax.tree.flatten(rule.slots)
    stored_slots = _checked_slots(rule, state, params)
    structure = jax.tree.structure(params)
    all_params = [jnp.asarray(param) for param in jax.tree.leaves(params)]
    full = [i for i, param in enumerate(all_params) if _has_elements(param)]  # the rule never sees empty tensors
    of_full = lambda tree: _pick([jnp.asarray(x).astype(jnp.float32) for x in structure.flatten_up_to(tree)], full)
    tensors = _pick(all_params, full)

    columns = [
        _parted(slot, stored, tensors) if isinstance(slot, TensorSlot) else of_full(stored)
        for slot, stored in zip(slots, stored_slots, strict=True)
    ]
    made, new_slots, shared = rule.update(
        of_full(grads),
        of_full(params),
        [slots_structure.unflatten([column[i] for column in columns]) for i in range(len(full))],
        state.shared,
        state.step.astype(jnp.float32),
        None if loss is None else jnp.asarray(loss).astype(jnp.float32),
    )

    def with_empty(arrays, others):
        """Returns the pytree of all tensors: `arrays` for the non-empty ones, `others` for the empty ones."""
        by_index = dict(zip(full, arrays, strict=True))
        return structure.unflatten([by_index.get(i, other) for i, other in enumerate(others)])

    updates = with_empty([new.astype(param.dtype) for new, param in zip(made, tensors, strict=True)], all_params)
    rows = [slots_structure.flatten_up_to(row) for row in new_slots]
    kept = []
    for i, (slot, stored) in enumerate(zip(slots, stored_slots, strict=True)):
        column = [row[i] for row in rows]
        if isinstance(slot, TensorSlot):
            kept.append(_end_to_end(column))
        else:
            column = [_stored(slot, array, moment_dtype) for array in column]
            kept.append(with_empty(column, structure.flatten_up_to(stored)))
    step = jnp.asarray(optax.safe_increment(state.step))
    return updates, OptimizerState(step, slots_structure.unflatten(kept), shared)


def _checked_slots(rule, state, params):
    """Returns what is stored of each slot: a pytree like params, or a vector.

    Raises:
      ValueError: unless the state has the structure and the shapes that `init` of the parameters gives.
    """
    like = jax.tree.map(lambda slot: 0 if isinstance(slot, TensorSlot) else params, rule.slots)
    slots = getattr(state, "slots", None)
    checks.state_structure(jax.tree.structure(slots), jax.tree.structure(like), isinstance(state, OptimizerState))
    stored_slots = jax.tree.structure(rule.slots).flatten_up_to(slots)
    for slot, stored in zip(jax.tree.leaves(rule.slots), stored_slots, strict=True):
        if not isinstance(slot, TensorSlot):
            for array, param in zip(jax.tree.leaves(stored), jax.tree.leaves(params), strict=True):
                checks.state_shape(jnp.shape(array)[: jnp.ndim(param)], jnp.shape(param))
    return stored_slots


def _stored(slot, array, moment_dtype):
    return array.astype(moment_dtype if slot is momentum else jnp.float32)


def _has_elements(param):
    return math.prod(jnp.shape(param)) > 0


def _pick(items, indices):
    return [items[i] for i in indices]


def _end_to_end(arrays: Sequence[jax.Array]) -> jax.Array:
    """Concatenates arrays of any shape to one vector."""
    return jnp.concatenate([jnp.zeros((0,), jnp.float32), *(jnp.ravel(array) for array in arrays)])


def _parted(slot, vector, params):
    """Undoes `_end_to_end` for the arrays that a `TensorSlot` made for these parameters."""
    shapes = [jax.eval_shape(slot.make, param).shape for param in params]
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    checks.state_shape(jnp.shape(vector), (int(ends[-1]),) if shapes else (0,))
    parts = jnp.split(vector, ends[:-1]) if shapes else []
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
