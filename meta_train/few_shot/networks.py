"""The networks of the few-shot literature: a perceptron, and four blocks of convolutions.

Finn, Abbeel, Levine 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks",
https://arxiv.org/abs/1703.03400; Vinyals et al. 2016, "Matching Networks for One Shot Learning",
https://arxiv.org/abs/1606.04080

Deviations: no bias where the statistics of the batch are taken out right after, for it has no effect; initial weights
are haiku's.
"""

from collections.abc import Sequence

import haiku as hk
import jax
import jax.numpy as jnp

from meta_train.few_shot.base import Network
from meta_train.tasks.convolution import convolve

_HEAD = "head"  # the last linear layer
_NUM_BLOCKS = 4
_EPSILON = 1e-3  # added to the variance of the batch


def perceptron(num_outputs: int, hidden_sizes: Sequence[int] = (40, 40)) -> Network:
    """Builds linear layers with ReLU between them, on flattened inputs.

    Args:
      num_outputs: size of the last layer.
      hidden_sizes: of the others. The default is MAML's network for sinusoids.

    Raises:
      ValueError: if a size is below 1.

    Example:
      >>> network = perceptron(1)
      >>> params = network.init(jax.random.key(0), jnp.zeros((10, 1)))
      >>> network.apply(params, jnp.zeros((10, 1))).shape
      (10, 1)
      >>> params[network.head]["w"].shape
      (40, 1)
    """
    _check_sizes(num_outputs=num_outputs, **{f"hidden_sizes[{i}]": size for i, size in enumerate(hidden_sizes)})

    def forward(x):
        x = x.reshape(len(x), -1)
        for i, size in enumerate(hidden_sizes):
            x = jax.nn.relu(hk.Linear(size, name=f"linear_{i}")(x))
        return hk.Linear(num_outputs, name=_HEAD)(x)

    return _network(forward)


def conv4(num_outputs: int, channels: int = 64, *, strided: bool = False) -> Network:
    """Builds four blocks of a 3×3 convolution, batch statistics, ReLU and 2×2 max-pooling, and a linear layer.

    The statistics are those of the batch that `apply` gets, at all times: of the support set while a network adapts,
    of the query set where it is judged ("transductive", as in MAML).

    Args:
      num_outputs: size of the last layer.
      channels: of each convolution.
      strided: convolutions of stride 2 in place of pooling, and the mean over the picture before the last layer, as
        MAML has it for Omniglot: a third of the work. Else the last layer sees all places that pooling leaves. Where a
        picture is a single pixel wide or high, blocks neither pool nor stride on.

    Returns:
      A `Network` for pictures float32[n, height, width, channels].

    Raises:
      ValueError: if a size is below 1, or from its functions if the inputs are no pictures.

    Example:
      >>> network = conv4(5, channels=8)
      >>> params = network.init(jax.random.key(0), jnp.zeros((2, 28, 28, 1)))
      >>> network.apply(params, jnp.zeros((2, 28, 28, 1))).shape
      (2, 5)
      >>> params["block_0"]["w"].shape
      (3, 3, 1, 8)
    """
    _check_sizes(num_outputs=num_outputs, channels=channels)

    def forward(x):
        if x.ndim != 4:
            raise ValueError(
                f"conv4 needs pictures, float[n, height, width, channels], got {x.shape}: use few_shot.perceptron."
            )
        for i in range(_NUM_BLOCKS):
            x = _Block(channels, strided, name=f"block_{i}")(x)
        x = x.mean(axis=(1, 2)) if strided else x.reshape(len(x), -1)
        return hk.Linear(num_outputs, name=_HEAD)(x)

    return _network(forward)


class _Block(hk.Module):
    """Convolution, batch statistics, and ReLU, at half the resolution."""

    def __init__(self, channels, strided, name):
        super().__init__(name)
        self._channels, self._strided = channels, strided

    def __call__(self, x):
        inputs = x.shape[-1]
        shape = (3, 3, inputs, self._channels)
        w = hk.get_parameter("w", shape, x.dtype, hk.initializers.TruncatedNormal(1 / (9 * inputs) ** 0.5))
        scale = hk.get_parameter("scale", (self._channels,), x.dtype, jnp.ones)
        offset = hk.get_parameter("offset", (self._channels,), x.dtype, jnp.zeros)
        # Pooling comes first, for the rest is then a fourth of the work. It commutes with what follows, which grows in
        # x where the scale is positive; so where it is not, the signs of filters and scale are turned over.
        sign = jnp.where(scale < 0, -1, 1).astype(x.dtype)
        x = convolve(x, w * sign, stride=2 if self._strided else 1)
        mean = x.mean(axis=(0, 1, 2))
        variance = jnp.square(x - mean).mean(axis=(0, 1, 2))
        x = x if self._strided else _max_pool(x)
        return jax.nn.relu((x - mean) * (scale * sign * jax.lax.rsqrt(variance + _EPSILON)) + offset)


def _max_pool(x):
    """The largest of each 2×2 pixels; a last odd row or column is left out. Equal pixels share the derivative."""
    n, height, width, channels = x.shape
    if height < 2 or width < 2:
        return x
    rows, columns = height // 2, width // 2
    return x[:, : 2 * rows, : 2 * columns].reshape(n, rows, 2, columns, 2, channels).max(axis=(2, 4))


def _network(forward):
    init, apply = hk.without_apply_rng(hk.transform(forward))
    return Network(init, apply, _HEAD)


def _check_sizes(**sizes):
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}.")
