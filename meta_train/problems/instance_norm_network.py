"""The network that the literature of data set distillation trains: convolutions with instance normalization.

Gidaris and Komodakis 2018, "Dynamic Few-Shot Visual Learning without Forgetting", https://arxiv.org/abs/1804.09458;
Zhao, Mopuri, Bilen 2021, "Dataset Condensation with Gradient Matching", https://arxiv.org/abs/2006.05929
"""

import haiku as hk
import jax
import jax.numpy as jnp

from meta_train.few_shot.base import Network
from meta_train.tasks.convolution import convolve

_HEAD = "head"
_EPSILON = 1e-5  # added to the variance of a channel


def instance_norm_network(num_outputs: int, channels: int = 128, num_blocks: int = 3) -> Network:
    """Builds blocks of a 3×3 convolution, instance normalization, ReLU and 2×2 average-pooling, and a linear layer.

    Instance normalization takes mean and variance of each channel of each picture over its pixels, so that an example's
    output does not depend on the others in its batch.

    Args:
      num_outputs: size of the last layer.
      channels: of each convolution. The papers have 128.
      num_blocks: how many. A picture that a block makes a single pixel wide or high is not pooled on.

    Returns:
      A `Network` for pictures float32[n, height, width, channels].

    Raises:
      ValueError: if a size is below 1, or from its functions if the inputs are no pictures.

    Example:
      >>> network = instance_norm_network(10, channels=4, num_blocks=2)
      >>> params = network.init(jax.random.key(0), jnp.zeros((2, 8, 8, 1)))
      >>> jax.jit(network.apply)(params, jnp.zeros((2, 8, 8, 1))).shape
      (2, 10)
      >>> params[network.head]["w"].shape
      (16, 10)
    """
    for name, size in {"num_outputs": num_outputs, "channels": channels, "num_blocks": num_blocks}.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}.")

    def forward(x):
        if x.ndim != 4:
            raise ValueError(
                f"instance_norm_network needs pictures, float[n, height, width, channels], got {x.shape}: use "
                "few_shot.perceptron."
            )
        for i in range(num_blocks):
            x = _pool(jax.nn.relu(_Convolution(channels, name=f"block_{i}")(x)))
        return hk.Linear(num_outputs, name=_HEAD)(x.reshape(len(x), -1))

    init, apply = hk.without_apply_rng(hk.transform(forward))
    return Network(init, apply, _HEAD)


class _Convolution(hk.Module):
    """A convolution whose channels have mean 0 and variance 1 over each picture, then a scale and an offset."""

    def __init__(self, channels, name):
        super().__init__(name)
        self._channels = channels

    def __call__(self, x):
        inputs = x.shape[-1]
        shape = (3, 3, inputs, self._channels)
        w = hk.get_parameter("w", shape, x.dtype, hk.initializers.TruncatedNormal(1 / (9 * inputs) ** 0.5))
        scale = hk.get_parameter("scale", (self._channels,), x.dtype, jnp.ones)
        offset = hk.get_parameter("offset", (self._channels,), x.dtype, jnp.zeros)
        x = convolve(x, w)
        centered = x - jnp.mean(x, axis=(1, 2), keepdims=True)
        variance = jnp.mean(jnp.square(centered), axis=(1, 2), keepdims=True)
        return centered * (scale * jax.lax.rsqrt(variance + _EPSILON)) + offset


def _pool(x):
    """The mean of each 2×2 pixels; a last odd row or column is left out."""
    n, height, width, channels = x.shape
    if height < 2 or width < 2:
        return x
    rows, columns = height // 2, width // 2
    return x[:, : 2 * rows, : 2 * columns].reshape(n, rows, 2, columns, 2, channels).mean(axis=(2, 4))
