"""`Rule`: how an architecture updates the tensors of a model, and which state it keeps for each of them.

The state of a tensor consists of slots. An architecture lists its slots in a NamedTuple with a comment on each field.
`Rule.slots` is that NamedTuple filled with makers, one per array: a `SlotMaker` for an array of the parameter's shape,
a `TensorSlot` for an array of any other shape. In `Rule.update` the same NamedTuple holds the arrays of one tensor. In
the state of the transformation it holds those of all tensors.
"""

from collections.abc import Callable
import dataclasses
from typing import Any
from typing import NamedTuple
from typing import Protocol
from typing import TypeAlias

import jax
import jax.numpy as jnp

Theta: TypeAlias = Any
"""Meta-parameters: a pytree of float32 arrays."""


class SlotMaker(Protocol):
    """Makes the initial value of a slot."""

    def __call__(self, param: jax.Array) -> jax.Array:
        """Returns an array whose shape begins with that of the parameter."""
        ...


@dataclasses.dataclass(frozen=True)
class TensorSlot:
    """A slot whose shape is not that of the parameter, such as a number or the means over rows.

    The state holds these slots of all tensors in one vector, end to end. Code that looks for arrays shaped like
    parameters, such as sharding annotations, therefore does not mistake them for parameters.

    Attributes:
      make: `(param) -> array`, the initial value, float32 of any shape.
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
    ) -> tuple[list[jax.Array], list[Any], Any]:
        """Computes one update.

        Args:
          grads: the gradient of each tensor, float32 arrays.
          params: the tensors, float32 arrays.
          slots: the slots of each tensor, NamedTuples of float32 arrays with the fields of `Rule.slots`.
          shared: the state that all tensors share.
          step: number of updates made so far, float32[].
          loss: float32[], or None if the user did not pass `value=`.

        Returns:
          The update of each tensor, its new slots, and the new `shared`.
        """
        ...


class UpdateTensor(Protocol):
    """Updates one tensor independently of the others."""

    def __call__(self, grad: jax.Array, param: jax.Array, slots: Any, step: jax.Array) -> tuple[jax.Array, Any]:
        """Computes one update.

        Args:
          grad: the gradient, float32.
          param: the tensor, float32.
          slots: its slots, a NamedTuple of float32 arrays with the fields of `Rule.slots`.
          step: number of updates made so far, float32[].

        Returns:
          The update and the new slots.
        """
        ...


class InitShared(Protocol):
    """Makes the initial value of the state that all tensors share."""

    def __call__(self, params: list[jax.Array]) -> Any:
        """Returns a pytree of arrays."""
        ...


def _nothing_shared(params: list[jax.Array]) -> Any:
    del params
    return ()


class Rule(NamedTuple):
    """The update rule of an architecture. `define` turns it into an optax transformation.

    Tensors without elements are left out of all lists. Arithmetic is in float32.

    Fields:
      slots: the state of a tensor: a NamedTuple, or any pytree, of makers. Use `momentum` for averages of gradients,
        whose dtype the user chooses, `zeros` for arrays that stay float32, and `number` for one number per tensor.
      update: see `UpdateTensors`. `per_tensor` makes it from a function of one tensor.
      shared: see `InitShared`.
    """

    slots: Any
    update: UpdateTensors
    shared: InitShared = _nothing_shared


class MakeRule(Protocol):
    """Makes the update rule from meta-parameters."""

    def __call__(self, theta: Theta, horizon: jax.Array) -> Rule:
        """Returns the rule.

        Args:
          theta: meta-parameters, a pytree of float32 arrays.
          horizon: the planned number of updates (`num_steps`), float32[], or 0 if it is not known.
        """
        ...


def per_tensor(slots: Any, update: UpdateTensor) -> Rule:
    """Returns a rule that updates every tensor independently."""

    def update_all(grads, params, slots, shared, step, loss):
        del loss
        results = [update(*tensor, step) for tensor in zip(grads, params, slots, strict=True)]
        return [update for update, _ in results], [slots for _, slots in results], shared

    return Rule(slots, update_all)


def zeros(param: jax.Array) -> jax.Array:
    """A slot: float32 zeros in the shape of the parameter, with its sharding."""
    return jnp.zeros_like(param, jnp.float32)


def momentum(param: jax.Array) -> jax.Array:
    """A slot like `zeros`, for an average of gradients. It is stored in the user's `moment_dtype`."""
    return zeros(param)


def _zero(param):
    del param
    return jnp.zeros((), jnp.float32)


number = TensorSlot(_zero)
"""A slot: one number per tensor, initially 0."""
