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
from learned_optim.rule import TensorSlot
from learned_optim.rule import momentum


class OptimizerState(NamedTuple):
    """State of a learned optimizer's transformation."""

    step: jax.Array  # int32[], updates made so far
    slots: Any  # as `Rule.slots`: for each array a pytree with the structure of params, for a `TensorSlot` one vector,
    #             float32[total], with those of all tensors that have elements, end to end
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

    def init(params):
        checks.params(params)
        if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(params)):
            return jax.eval_shape(init, params)  # shapes in, shapes out: part of the state is made of the values

        first = lambda theta, horizon, params: _first_state(rule_of(theta, horizon), moment_dtype, params)
        mesh = explicit_axes.mesh_of(params)
        if mesh is not None:
            first = explicit_axes.automatic(first, mesh, _shardings(rule_of(theta, horizon), params, mesh))
        return first(theta, horizon, params)

    def update(updates, state, params=None, *, value=None, **extra_args):
        del extra_args  # what other transformations in a chain may want
        checks.gradients(updates, params)

        advance = lambda theta, horizon, *rest: _advance(rule_of(theta, horizon), moment_dtype, *rest)
        mesh = explicit_axes.mesh_of((updates, params))
        if mesh is not None:
            out = explicit_axes.like(params, mesh), _shardings(rule_of(theta, horizon), params, mesh)
            advance = explicit_axes.automatic(advance, mesh, out)
        return advance(theta, horizon, updates, state, params, value)

    return optax.GradientTransformationExtraArgs(init, update)


def _shardings(rule, params, mesh):
    """The shardings of a state, on a mesh with explicit axes."""
    replicated, like_params = jax.NamedSharding(mesh, jax.P()), explicit_axes.like(params, mesh)
    of_slot = lambda slot: replicated if isinstance(slot, TensorSlot) else like_params
    return OptimizerState(replicated, jax.tree.map(of_slot, rule.slots), replicated)


def _first_state(rule, moment_dtype, params):
    tensors = [jnp.asarray(param) for param in jax.tree.leaves(params) if _has_elements(param)]

    def first(slot):
        if isinstance(slot, TensorSlot):
            return _end_to_end([slot.make(param) for param in tensors])
        return jax.tree.map(lambda param: _stored(slot, slot(jnp.asarray(param)), moment_dtype), params)

    shared = jax.tree.map(jnp.copy, rule.shared(tensors))  # no buffer twice or of theta: the state may be donated
    return OptimizerState(jnp.zeros((), jnp.int32), jax.tree.map(first, rule.slots), shared)


def _advance(rule, moment_dtype, grads, state, params, loss):
    """The updates of all parameters, and the new state."""
    slots, slots_structure = jax.tree.flatten(rule.slots)
    structure = jax.tree.structure(params)
    all_params = [jnp.asarray(param) for param in jax.tree.leaves(params)]
    full = [i for i, param in enumerate(all_params) if _has_elements(param)]  # the others have nothing to update
    of_full = lambda tree: _pick([jnp.asarray(x).astype(jnp.float32) for x in structure.flatten_up_to(tree)], full)
    tensors = _pick(all_params, full)

    columns = [
        _parted(slot, stored, tensors) if isinstance(slot, TensorSlot) else of_full(stored)
        for slot, stored in zip(slots, slots_structure.flatten_up_to(state.slots), strict=True)
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
        """The pytree of all tensors, from those that have elements."""
        arrays = dict(zip(full, arrays, strict=True))
        return structure.unflatten([arrays.get(i, other) for i, other in enumerate(others)])

    updates = with_empty([new.astype(param.dtype) for new, param in zip(made, tensors, strict=True)], all_params)
    rows = [slots_structure.flatten_up_to(row) for row in new_slots]
    kept = []
    for i, (slot, stored) in enumerate(zip(slots, slots_structure.flatten_up_to(state.slots), strict=True)):
        column = [row[i] for row in rows]
        if isinstance(slot, TensorSlot):
            kept.append(_end_to_end(column))
        else:
            column = [_stored(slot, array, moment_dtype) for array in column]
            kept.append(with_empty(column, structure.flatten_up_to(stored)))
    return updates, OptimizerState(optax.safe_increment(state.step), slots_structure.unflatten(kept), shared)


def _stored(slot, array, moment_dtype):
    return array.astype(moment_dtype if slot is momentum else jnp.float32)


def _has_elements(param):
    return math.prod(jnp.shape(param)) > 0


def _pick(items, indices):
    return [items[i] for i in indices]


def _end_to_end(arrays: Sequence[jax.Array]) -> jax.Array:
    """Arrays of any shape in one vector."""
    return jnp.concatenate([jnp.zeros((0,), jnp.float32), *(jnp.ravel(array) for array in arrays)])


def _parted(slot, vector, params):
    """Undoes `_end_to_end` for the arrays that a tensor slot made of these parameters."""
    shapes = [jax.eval_shape(slot.make, param).shape for param in params]
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = jnp.split(vector, ends[:-1]) if shapes else []
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
