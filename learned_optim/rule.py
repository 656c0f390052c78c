"""`Rule`: how an architecture updates the tensors of a model, and what it keeps of each: its slots.

An architecture lists its slots in a NamedTuple, with a comment on each field. `Rule.slots` holds a maker for each
array: a function of the parameter, or a `TensorSlot` for what is not of the parameter's shape. In the rule's `update`
the same NamedTuple holds the arrays of one tensor, and in the state of the transformation those of all tensors.
"""

from collections.abc import Callable
import dataclasses
from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import jax.numpy as jnp

SlotMaker = Callable[[jax.Array], jax.Array]  # (param) -> its first array, whose shape begins with the parameter's


@dataclasses.dataclass(frozen=True)
class TensorSlot:
    """A slot that is not of the parameter's shape, such as a number or the means over rows.

    The state holds those of all tensors end to end, in one vector. So nothing takes them for a parameter: a sharding
    of the parameters, for example, is not meant for them.

    Attributes:
      make: `(param) -> array`, its first value, float32 of any shape.
    """

    make: Callable[[jax.Array], jax.Array]


class UpdateTensors(Protocol):
    """Updates all tensors of a model together."""

    def __call__(
        self,
        grads: list[jax.Array],
        params: list[jax.Array],
        slots: list[Any],
        shared: Any,
        step: jax.Array,
        loss: jax.Array | None,
        /,
    ) -> tuple[list[jax.Array], list[Any], Any]:
        """Makes one update.

        Args:
          grads: the gradient of each tensor, float32 arrays.
          params: the tensors, float32 arrays.
          slots: the slots of each tensor, a NamedTuple of float32 arrays as `Rule.slots` lists them.
          shared: what all tensors have in common.
          step: updates made so far, float32[].
          loss: float32[], or None if the user did not pass `value=`.

        Returns:
          The update of each tensor, its new slots, and the new `shared`.
        """
        ...


class UpdateTensor(Protocol):
    """Updates one tensor, whatever the others do."""

    def __call__(self, grad: jax.Array, param: jax.Array, slots: Any, step: jax.Array, /) -> tuple[jax.Array, Any]:
        """Makes one update.

        Args:
          grad: the gradient, float32.
          param: the tensor, float32.
          slots: its slots, a NamedTuple of float32 arrays as `Rule.slots` lists them.
          step: updates made so far, float32[].

        Returns:
          The update and the new slots.
        """
        ...


class Rule(NamedTuple):
    """How an architecture updates the tensors of a model: what `define` makes a transformation of.

    Tensors without elements are left out of all lists. Arithmetic is in float32.

    Fields:
      slots: the state of a tensor: a NamedTuple, or any pytree, of makers. `momentum` marks arrays that a user may want
        in another dtype; `zeros` makes a float32 array that stays float32; `number` is one number of the tensor.
      update: see `UpdateTensors`.
      shared: `(params) -> pytree`, the first value of what all tensors have in common.
    """

    slots: Any
    update: UpdateTensors
    shared: Callable[[list[jax.Array]], Any] = lambda params: ()


def per_tensor(slots: Any, update: UpdateTensor) -> Rule:
    """A rule that treats every tensor by itself."""

    def update_all(grads, params, slots, shared, step, loss):
        del loss
        results = [update(*tensor, step) for tensor in zip(grads, params, slots, strict=True)]
        return [new for new, _ in results], [made for _, made in results], shared

    return Rule(slots, update_all)


def zeros(param: jax.Array) -> jax.Array:
    """A slot: float32 zeros in the shape of the parameter, sharded as it is."""
    return jnp.zeros_like(param, jnp.float32)


def momentum(param: jax.Array) -> jax.Array:
    """A slot like `zeros` for an average of gradients, which is stored in the user's `moment_dtype`."""
    return zeros(param)


def _zero(param):
    del param
    return jnp.zeros((), jnp.float32)


number = TensorSlot(_zero)
"""A slot: a number that belongs to the tensor, 0 at first."""
