"""What a network computes below its last layer."""

from typing import Any

import haiku as hk
import jax

from meta_train.few_shot.base import Network


def features(network: Network, params: Any, inputs: jax.Array) -> jax.Array:
    """Computes the inputs of a network's last layer.

    Args:
      network: made with haiku; the module `network.head` is its last layer.
      params: the network's parameters.
      inputs: float32[n, ...].

    Returns:
      float32[n, features]. `outputs == features @ w + b`, with w and b of `params[network.head]`.

    Raises:
      ValueError: if the network does not call a haiku module of that name.

    Example:
      >>> import haiku as hk, jax.numpy as jnp
      >>> def layers(x):
      ...     return hk.Linear(2, name="head")(jax.nn.relu(hk.Linear(8)(x)))
      >>> made = hk.without_apply_rng(hk.transform(layers))
      >>> network = Network(made.init, made.apply, head="head")
      >>> params = network.init(jax.random.key(0), jnp.ones((5, 3)))
      >>> features(network, params, jnp.ones((5, 3))).shape
      (5, 8)
    """
    found = []

    def note(call, args, kwargs, context):
        if context.method_name == "__call__" and context.module.module_name == network.head:
            found.append(args[0])
        return call(*args, **kwargs)

    with hk.intercept_methods(note):
        network.apply(params, inputs)
    if not found:
        raise ValueError(
            f"the network must call a haiku module named {network.head!r}, its head, and does not: "
            "name its last layer so, or give Network the name that it has."
        )
    return found[-1]
