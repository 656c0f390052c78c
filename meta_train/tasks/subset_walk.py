"""The examples of an episode's subset: a walk through the data set, from where the episode begins.

Steps of a prime that does not divide the number of examples meet each of them once, in an order that looks random. All
numbers are int32, so products must stay below 2^31.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float32
    from jaxtyping import Int32

_STRIDES = (7919, 7907, 7901)  # primes; one of them does not divide a number below 2^31


def num_seen(share: Float32[Array, ""], num_examples: int) -> Int32[Array, ""]:
    """How many examples there are in the subset: that share of all, rounded up.

    Args:
      share: above 0, at most 1.
      num_examples: of the data set, below 2^31.
    """
    seen = jnp.ceil(share * num_examples)
    # The product is rounded to 24 bits, so that of large sets it may exceed their number, and 2^31 - 1 as well.
    return jnp.minimum(seen.astype(jnp.uint32), jnp.uint32(num_examples)).astype(jnp.int32)


def examples(steps: Int32[Array, "*shape"], start: Int32[Array, ""], num_examples: int) -> Int32[Array, "*shape"]:
    """The examples that the walk is at after some steps, (start + stride · steps) mod num_examples.

    Args:
      steps: each 0 … num_examples - 1; different ones lead to different examples.
      start: the example at which the walk begins.
      num_examples: of the data set, below 2^31.

    Returns:
      The examples, each 0 … num_examples - 1.

    References:
      Schrage 1979, A more portable Fortran random number generator, https://doi.org/10.1145/355826.355828: the product.

    Example:
      >>> [int(example) for example in examples(jnp.arange(4), jnp.int32(10), 1000)]
      [10, 929, 848, 767]
    """
    stride = next(stride for stride in _STRIDES if num_examples % stride)
    if (stride + 1) * (num_examples - 1) < 2**31:
        return (start + stride * steps) % num_examples
    quotient, remainder = divmod(num_examples, stride)
    # stride · steps mod num_examples: both products are below 2^31, for quotient is at least 34.
    walked = (stride * (steps % quotient) - remainder * (steps // quotient)) % num_examples
    return (walked - (num_examples - start)) % num_examples
