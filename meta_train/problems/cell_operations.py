"""What an edge of a cell can be: convolutions, pooling, or nothing but passing features on."""

from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import jax.numpy as jnp

from meta_train.tasks.convolution import convolve


class OperationInitFn(Protocol):
    """Draws an operation's parameters."""

    def __call__(self, key: jax.Array, channels: int) -> Any:
        """Draws them.

        Args:
          key: random key.
          channels: of the features, the same before and after.

        Returns:
          A pytree of floating-point arrays; () for an operation without parameters.
        """
        ...


class OperationFn(Protocol):
    """Applies an operation."""

    def __call__(self, params: Any, features: jax.Array, /) -> jax.Array:
        """Applies it.

        Args:
          params: the operation's.
          features: float[n, height, width, channels].

        Returns:
          Features of the same shape.
        """
        ...


class Operation(NamedTuple):
    """What an edge of a cell does to features, whose shape it keeps.

    Fields:
      name: different from the names of other operations.
      init: `(key, channels) -> params`.
      apply: `(params, features) -> features`.
    """

    name: str
    init: OperationInitFn
    apply: OperationFn


def picture_operations() -> tuple[Operation, ...]:
    """Operations on features of pictures: identity, 3×3 and 1×1 convolutions of their ReLU, 3×3 mean and max-pooling.

    Example:
      >>> [operation.name for operation in picture_operations()]
      ['identity', 'conv3x3', 'conv1x1', 'mean3x3', 'max3x3']
      >>> pool = picture_operations()[4]
      >>> pool.apply((), jnp.arange(9.0).reshape(1, 3, 3, 1))[0, :, :, 0].tolist()
      [[4.0, 5.0, 5.0], [7.0, 8.0, 8.0], [7.0, 8.0, 8.0]]
    """
    none = lambda key, channels: ()
    return (
        Operation("identity", none, lambda params, x: x),
        Operation("conv3x3", _filters, lambda w, x: convolve(jax.nn.relu(x), w)),
        Operation("conv1x1", _matrix, lambda w, x: jax.nn.relu(x) @ w),
        Operation("mean3x3", none, lambda params, x: _three(_three(x, 1, jnp.add, 0), 2, jnp.add, 0) / 9),
        Operation(
            "max3x3", none, lambda params, x: _three(_three(x, 1, jnp.maximum, -jnp.inf), 2, jnp.maximum, -jnp.inf)
        ),
    )


def _filters(key, channels):
    return jax.random.normal(key, (3, 3, channels, channels)) * (2 / (9 * channels)) ** 0.5


def _matrix(key, channels):
    return jax.random.normal(key, (channels, channels)) * (2 / channels) ** 0.5


def _three(x, axis, combine, outside):
    """Combines each pixel with its two neighbours along an axis."""
    padding = [(0, 0)] * x.ndim
    padding[axis] = (1, 1)
    padded = jnp.pad(x, padding, constant_values=outside)
    parts = [jax.lax.slice_in_dim(padded, i, i + x.shape[axis], axis=axis) for i in range(3)]
    return combine(combine(parts[0], parts[1]), parts[2])
