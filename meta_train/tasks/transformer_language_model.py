"""Language models of characters with a small transformer.

Vaswani et al. 2017, "Attention Is All You Need", https://arxiv.org/abs/1706.03762
"""

import haiku as hk

from meta_train.data import Text
from meta_train.tasks.attention import positions
from meta_train.tasks.attention import transformer
from meta_train.tasks.base import Task
from meta_train.tasks.language_model import language_model
from meta_train.tasks.variation import FIXED
from meta_train.tasks.variation import Variation


def transformer_language_model(
    name: str,
    text: Text,
    *,
    width: int = 32,
    num_layers: int = 1,
    num_heads: int = 2,
    widening: int = 2,
    length: int = 32,
    batch_size: int = 8,
    variation: Variation = FIXED,
) -> Task:
    """Builds the task of predicting characters with a causal transformer.

    Args:
      name: the task's name.
      text: see `language_model`.
      width: of the embeddings.
      num_layers, num_heads, widening: see `attention.transformer`.
      length, batch_size, variation: see `language_model`.

    Example:
      >>> from meta_train import data
      >>> transformer_language_model("docs-transformer", data.load("sklearn_docs"), width=8).name
      'docs-transformer'
    """

    def network(tokens, num_tokens):
        embedded = hk.Embed(num_tokens, width, w_init=hk.initializers.RandomNormal(0.02))(tokens)
        x = embedded + positions(length, width)
        x = transformer(x, num_layers=num_layers, num_heads=num_heads, widening=widening, causal=True)
        return hk.Linear(num_tokens, with_bias=False)(x)

    return language_model(name, text, network, length=length, batch_size=batch_size, variation=variation)
