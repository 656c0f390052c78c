"""`Rule`: how an architecture updates the tensors of a model, and what state it keeps of each."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Rule(NamedTuple):
    """How an architecture updates the tensors of a model: what `define` makes a transformation of.

    Tensors without elements are left out of all lists. Arithmetic is in float32.

    Fields:
      slots: one function per state array of a tensor that has a value for each coordinate, `(param) -> array`: its
        shape begins with the parameter's. `momentum` marks those that a user may want in another dtype; `zeros` makes
        a float32 array that stays float32.
      update: `(grads, params, slots, shared, step, loss) -> (updates, slots, shared)` with lists that have one entry
        per tensor: float32 arrays, and for `slots` tuples of arrays, those of `slots` and then those of
        `tensor_slots`. `step` is a float32 scalar, 0 at the first update; `loss` is a float32 scalar, or None if the
        user did not pass `value=`.
      shared: `(params) -> pytree`, the first value of `shared`: what all tensors have in common.
      tensor_slots: one function per state array of a tensor that is not of its shape, such as a number or the means
        over rows, `(param) -> array`. The state holds those of all tensors end to end, in one vector, so that
        nothing takes them for a parameter: a sharding of the parameters, for example, is not meant for them.
    """

    slots: Sequence[Callable[[jax.Array], jax.Array]]
    update: Callable[..., tuple[list[jax.Array], list[tuple[jax.Array, ...]], Any]]
    shared: Callable[[list[jax.Array]], Any] = lambda params: ()
    tensor_slots: Sequence[Callable[[jax.Array], jax.Array]] = ()


def per_tensor(
    slots: Sequence[Callable[[jax.Array], jax.Array]],
    rule: Callable[..., tuple[jax.Array, tuple[jax.Array, ...]]],
    tensor_slots: Sequence[Callable[[jax.Array], jax.Array]] = (),
) -> Rule:
    """A rule that treats every tensor by itself: `(grad, param, slots, step) -> (update, slots)`."""

    def update(grads, params, slots, shared, step, loss):
        del loss
        results = [rule(*tensor, step) for tensor in zip(grads, params, slots, strict=True)]
        return [new for new, _ in results], [made for _, made in results], shared

    return Rule(slots, update, tensor_slots=tensor_slots)


def zeros(param: jax.Array) -> jax.Array:
    """A slot: float32 zeros in the shape of the parameter, sharded as it is."""
    return jnp.zeros_like(param, jnp.float32)


def momentum(param: jax.Array) -> jax.Array:
    """A slot like `zeros` for an average of gradients, which is stored in the user's `moment_dtype`."""
    return zeros(param)


def number(param: jax.Array) -> jax.Array:
    """A tensor slot: a number that belongs to the tensor, 0 at first."""
    del param
    return jnp.zeros((), jnp.float32)
