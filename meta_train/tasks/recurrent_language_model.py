"""Language models of characters with a recurrent network: plain, GRU or LSTM.

Hochreiter and Schmidhuber 1997, "Long Short-Term Memory", https://doi.org/10.1162/neco.1997.9.8.1735
Cho et al. 2014 (GRU), https://arxiv.org/abs/1406.1078
"""

from collections.abc import Callable

import haiku as hk

from meta_train.data import Text
from meta_train.tasks.base import Task
from meta_train.tasks.language_model import language_model
from meta_train.tasks.variation import FIXED
from meta_train.tasks.variation import Variation


def recurrent_language_model(
    name: str,
    text: Text,
    *,
    core: Callable[[int], hk.RNNCore] = hk.GRU,
    hidden_size: int = 32,
    embedding_size: int = 16,
    length: int = 20,
    batch_size: int = 32,
    variation: Variation = FIXED,
) -> Task:
    """Builds the task of predicting characters with a recurrent network, from a zero state at each window.

    Args:
      name: the task's name.
      text: see `language_model`.
      core: the recurrent part, of its size: `hk.VanillaRNN`, `hk.GRU` or `hk.LSTM`.
      hidden_size: units of the core.
      embedding_size: of the characters' embeddings.
      length, batch_size, variation: see `language_model`.

    Example:
      >>> from meta_train import data
      >>> recurrent_language_model("docs-gru", data.load("sklearn_docs"), hidden_size=8).name
      'docs-gru'
    """

    def network(tokens, num_tokens):
        recurrent = core(hidden_size)
        embedded = hk.Embed(num_tokens, embedding_size)(tokens)
        outputs, _ = hk.dynamic_unroll(recurrent, embedded, recurrent.initial_state(len(tokens)), time_major=False)
        return hk.Linear(num_tokens)(outputs)

    return language_model(name, text, network, length=length, batch_size=batch_size, variation=variation)
