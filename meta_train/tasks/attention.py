"""Transformer blocks for small models, shared by the language model and the vision transformer.

Vaswani et al. 2017, "Attention Is All You Need", https://arxiv.org/abs/1706.03762; layer normalization comes before
each part and once at the end, as in most later models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import haiku as hk
import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array
    from jaxtyping import Float


def transformer(
    x: Float[Array, "batch length width"], *, num_layers: int, num_heads: int, widening: int = 2, causal: bool
) -> Float[Array, "batch length width"]:
    """Applies blocks of self-attention and a two-layer MLP; a function of Haiku modules.

    Args:
      x: embeddings with positions.
      num_layers: blocks.
      num_heads: attention heads, a divisor of width.
      widening: hidden units of the MLPs, in widths.
      causal: whether a place attends only to itself and those before it.

    Returns:
      The output of the last block, normalized.
    """
    width = x.shape[-1]
    if width % num_heads:
        raise ValueError(f"num_heads must divide the width, got {num_heads} heads and width {width}.")
    for _ in range(num_layers):
        x = x + _self_attention(layer_norm(x), num_heads, causal)
        hidden = jax.nn.gelu(hk.Linear(widening * width)(layer_norm(x)))
        x = x + hk.Linear(width)(hidden)
    return layer_norm(x)


def positions(length: int, width: int) -> Float[Array, "{length} {width}"]:
    """Learned embeddings of the places 0 … length - 1."""
    return hk.get_parameter("positions", (length, width), init=hk.initializers.RandomNormal(0.02))


def layer_norm(x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
    """Layer normalization over the last axis, with learned scale and offset."""
    return hk.LayerNorm(axis=-1, create_scale=True, create_offset=True)(x)


def _self_attention(x, num_heads, causal):
    batch, length, width = x.shape
    heads = hk.Linear(3 * width, with_bias=False)(x).reshape(batch, length, 3, num_heads, width // num_heads)
    query, key, value = heads[:, :, 0], heads[:, :, 1], heads[:, :, 2]
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / (width // num_heads) ** 0.5
    if causal:
        scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -1e30)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), value)
    return hk.Linear(width)(mixed.reshape(batch, length, width))
