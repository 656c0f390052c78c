"""A perceptron whose widths, depth, activation and normalization are drawn anew: one shape, masks, one program.

Hidden units beyond a layer's width give 0, and a layer that is left out hands its input on. The gradient of every
weight that only these touch is exactly 0, and so is its initial value.
"""

from __future__ import annotations

from collections.abc import Sequence
import itertools
from typing import TYPE_CHECKING
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.tasks.broad_draws import first
from meta_train.tasks.broad_draws import integer
from meta_train.tasks.broad_draws import log_uniform

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float
    from jaxtyping import Int32

ACTIVATIONS = ("relu", "tanh", "gelu", "silu", "sigmoid")
# Each but relu is (a + b x) σ(c (x + d x³)) + e. gelu is `jax.nn.gelu` as it is by default, its tanh form.
_FORMS = np.array(
    [
        (0.0, 0.0, 0.0, 0.0, 0.0),
        (2.0, 0.0, 2.0, 0.0, -1.0),
        (0.0, 1.0, 2.0 * (2.0 / np.pi) ** 0.5, 0.044715, 0.0),
        (0.0, 1.0, 1.0, 0.0, 0.0),
        (1.0, 0.0, 1.0, 0.0, 0.0),
    ]
)


class NetworkDraw(NamedTuple):
    """What an episode drew of the network. H is the number of hidden layers that there can be."""

    widths: jax.Array  # int32[H], units of each hidden layer that count
    depth: jax.Array  # int32[], hidden layers that count, at least 1
    activation: jax.Array  # int32[], place in `ACTIVATIONS`
    normalized: jax.Array  # bool[], whether layer normalization comes before each activation
    init_scale: jax.Array  # float32[H + 1], factors on the initial weights of each layer, the output layer last


def possible_widths(width: int) -> tuple[int, ...]:
    """The widths that are drawn: nine from a quarter of the full width to the whole, in equal ratios.

    Example:
      >>> possible_widths(64)
      (16, 19, 23, 27, 32, 38, 45, 54, 64)
    """
    return tuple(max(1, round(width * 2.0 ** (i / 4 - 2))) for i in range(9))


def sample(key: jax.Array, width: int, max_depth: int) -> NetworkDraw:
    """Draws a network; `broad_perceptron` lists the ranges."""
    u = iter(jax.random.uniform(key, (6 + 2 * max_depth,)))
    grid = jnp.array(possible_widths(width), jnp.int32)
    own = grid[jnp.stack([integer(next(u), 0, len(grid) - 1) for _ in range(max_depth)])]
    scale = log_uniform(next(u), 0.5, 2.0)
    scales = [scale * log_uniform(next(u), 1 / 1.4, 1.4) for _ in range(max_depth)]
    return NetworkDraw(
        widths=jnp.where(next(u) < 0.5, own[0], own),
        depth=integer(next(u), 1, max_depth),
        activation=integer(next(u), 0, len(ACTIVATIONS) - 1),
        normalized=next(u) < 0.3,
        init_scale=jnp.stack([*scales, log_uniform(next(u), 0.03, 2.0)]),
    )


def init(
    key: jax.Array,
    draw: NetworkDraw,
    shown: Float[Array, " inputs"],
    num_outputs: Int32[Array, ""],
    sizes: Sequence[int],
) -> dict[str, dict[str, jax.Array]]:
    """Draws weights from a normal distribution cut off at two standard deviations; biases are 0.

    Args:
      key: random key.
      draw: the episode's network.
      shown: 0 for inputs that are always 0, other numbers for those that are not.
      num_outputs: how many outputs count, the first ones.
      sizes: of the arrays: inputs, hidden layers, outputs.

    Returns:
      `{"layer_0": {"w": [inputs, hidden], "b": [hidden]}, …}`, float32. The standard deviation of the weights is the
      layer's `init_scale` over the square root of the number of inputs that count; weights of units that do not are 0.
    """
    params = {}
    last = len(sizes) - 2
    before = (shown != 0).astype(jnp.float32)
    total = sum(rows * columns for rows, columns in itertools.pairwise(sizes))
    normal = jax.random.truncated_normal(key, -2.0, 2.0, (total,), jnp.float32)  # in one call, which compiles sooner
    for i, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        used = (i < draw.depth) | (i == last)
        count = num_outputs if i == last else draw.widths[i]
        after = first(columns, count).astype(jnp.float32)
        std = draw.init_scale[i] / jnp.sqrt(jnp.sum(before))
        of_layer, normal = jnp.split(normal, [rows * columns])
        mask = jnp.where(used, before[:, None] * after, 0.0)
        params[f"layer_{i}"] = {
            "w": std * mask * of_layer.reshape(rows, columns),
            "b": jnp.zeros((columns,), jnp.float32),
        }
        if i < last:
            before = jnp.where(used, after, before) if i else after
    return params


def apply(
    params: dict[str, dict[str, jax.Array]], x: Float[Array, "batch inputs"], draw: NetworkDraw
) -> Float[Array, "batch outputs"]:
    """The network's outputs; all that are beyond what an episode uses are there too, for the loss to leave out."""
    *hidden, output = (params[f"layer_{i}"] for i in range(len(params)))
    form, is_relu = jnp.asarray(_FORMS, x.dtype)[draw.activation], draw.activation == 0
    for i, layer in enumerate(hidden):
        mask = first(layer["b"].shape[0], draw.widths[i]).astype(x.dtype)
        h = x @ layer["w"] + layer["b"]
        h = _normalize(h, mask, draw.normalized)
        h = mask * jnp.where(is_relu, jnp.maximum(h, 0.0), _activate(h, form))
        x = h if i == 0 else jnp.where(i < draw.depth, h, x)
    return x @ output["w"] + output["b"]


def _activate(x, form):
    a, b, c, d, e = form
    return (a + b * x) * jax.nn.sigmoid(c * x * (1.0 + d * jnp.square(x))) + e


def _normalize(h, mask, normalized):
    """Layer normalization over the units that count, without learned scale and offset, or nothing.

    Means are products with a vector, and what chooses is one number for each example: both are fast.
    """
    share = mask / jnp.sum(mask)
    centered = h - jnp.where(normalized, h @ share, 0.0)[:, None]
    variance = jnp.square(centered) @ share
    return centered * jnp.where(normalized, jax.lax.rsqrt(variance + 1e-5), 1.0)[:, None]
