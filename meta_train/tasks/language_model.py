"""Next-character prediction by a Haiku network; the recurrent and the transformer language models build on it."""

from collections.abc import Callable
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from meta_train.data import Text
from meta_train.tasks.base import Task
from meta_train.tasks.minibatches import minibatch_task
from meta_train.tasks.prediction import cross_entropy
from meta_train.tasks.variation import Variation

_MOST_WINDOWS = 128  # of held-out text that `evaluate` looks at


class Tokens(NamedTuple):
    """The tokens of a text, on the host or on the devices."""

    train: np.ndarray | jax.Array  # int32[num_train]
    test: np.ndarray | jax.Array  # int32[num_test]


def language_model(
    name: str,
    text: Text,
    network: Callable[[jax.Array, int], jax.Array],
    *,
    length: int,
    batch_size: int,
    variation: Variation,
) -> Task:
    """Builds the task of predicting each character of a window from those before it.

    Args:
      name: the task's name.
      text: tokens and vocabulary.
      network: `(tokens int32[batch, length], num_tokens) -> logits float32[batch, length, num_tokens]`, a function of
        Haiku modules without randomness; a place's logits must not depend on later tokens.
      length: characters that are predicted in a window.
      batch_size: windows a step, drawn with replacement from all places of the text.
      variation: what each episode draws anew; there is no label noise.

    Returns:
      A `Task` whose loss is in nats a character and is normalized by that of guessing. `evaluate` gives the loss on
      windows side by side from the beginning of the held-out text, at most 128 of them.

    Raises:
      ValueError: if length or batch_size is below 1, the text is too short, or a range of variation is impossible or
        without meaning here.
    """
    if not 1 <= length < min(len(text.train), len(text.test)):
        raise ValueError(
            f"length must be at least 1 and below the {len(text.test)} held-out characters of the text, got {length}."
        )
    num_tokens = len(text.vocabulary)
    model = hk.without_apply_rng(hk.transform(lambda tokens: network(tokens, num_tokens)))
    windows = lambda tokens, starts: tokens[starts[:, None] + jnp.arange(length + 1)]

    def losses(params, window):
        return jnp.mean(cross_entropy(model.apply(params, window[:, :-1]), window[:, 1:]), axis=-1)

    def evaluate(params, key, data):
        starts = length * jnp.arange(min(_MOST_WINDOWS, (len(data.test) - 1) // length))
        return {"loss": jnp.mean(losses(params, windows(data.test, starts)))}

    return minibatch_task(
        name,
        Tokens(text.train, text.test),
        init=lambda key: model.init(key, jnp.zeros((1, length), jnp.int32)),
        example_losses=lambda params, key, x, y: losses(params, x),
        take=lambda data, starts: (windows(data.train, starts), ()),
        num_examples=len(text.train) - length,
        evaluate=evaluate,
        scale=np.log(num_tokens),
        batch_size=batch_size,
        variation=variation,
    )
