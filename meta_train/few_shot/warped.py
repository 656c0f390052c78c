"""Warp layers between the layers of a network.

Flennerhag et al. 2020, "Meta-Learning with Warped Gradient Descent", https://arxiv.org/abs/1909.00025
"""

from typing import Any

import haiku as hk
import jax.numpy as jnp

from meta_train.few_shot.base import Network
from meta_train.tasks.convolution import convolve

_WARP = "warp"


def warped(network: Network) -> Network:
    """Puts a linear layer after every layer of a network but the head.

    After a linear layer stands another, so that together they are y = T W x + ...; after a block of convolutions a 3×3
    convolution of as many channels. All begin as the identity, so that the network computes at first what it did.

    Args:
      network: made with haiku: its layers are modules that return float[n, features] or pictures
        float[n, height, width, channels].

    Returns:
      A `Network` with the parameters of the given one, and those of the warp layers beside them: `split` tells which.

    Example:
      >>> import jax
      >>> from meta_train.few_shot import perceptron
      >>> network = warped(perceptron(1, hidden_sizes=(4,)))
      >>> params = network.init(jax.random.key(0), jnp.ones((3, 2)))
      >>> adapted, warps = split(params)
      >>> sorted(adapted), sorted(warps)
      (['head', 'linear_0'], ['linear_0/warp'])
      >>> warps["linear_0/warp"]["w"].shape
      (4, 4)
    """

    def add_warp(call, args, kwargs, context):
        outputs = call(*args, **kwargs)
        name = context.module.module_name if context.method_name == "__call__" else ""
        if name in ("", network.head) or "/" in name:  # those with a slash are parts of layers
            return outputs
        return _Warp(name=_WARP)(outputs)

    def init(key, inputs):
        with hk.intercept_methods(add_warp):
            return network.init(key, inputs)

    def apply(params, inputs):
        with hk.intercept_methods(add_warp):
            return network.apply(params, inputs)

    return Network(init, apply, network.head)


def split(params: Any) -> tuple[Any, Any]:
    """Splits a warped network's parameters into those that adaptation moves and those of the warp layers."""
    is_warp = lambda name: name.rpartition("/")[2] == _WARP
    return (
        {name: value for name, value in params.items() if not is_warp(name)},
        {name: value for name, value in params.items() if is_warp(name)},
    )


class _Warp(hk.Module):
    """A linear map of the features, or a 3×3 convolution; the identity at first."""

    def __call__(self, x):
        size = x.shape[-1]
        eye = jnp.eye(size, dtype=x.dtype)
        bias = hk.get_parameter("b", (size,), x.dtype, jnp.zeros)
        if x.ndim == 2:
            return x @ hk.get_parameter("w", (size, size), x.dtype, lambda shape, dtype: eye) + bias
        if x.ndim != 4:
            raise ValueError(
                f"layers must return float[n, features] or pictures float[n, height, width, channels], got {x.shape}."
            )
        centre = lambda shape, dtype: jnp.zeros(shape, dtype).at[1, 1].set(eye)
        return convolve(x, hk.get_parameter("w", (3, 3, size, size), x.dtype, centre)) + bias
