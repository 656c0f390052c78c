"""A recurrent net that predicts the next character, in the style of Haiku's example, on scikit-learn's documentation.

https://github.com/google-deepmind/dm-haiku/tree/main/examples/rnn
"""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train import data as data_sets

text = data_sets.load("sklearn_docs")
VOCABULARY, LENGTH, BATCH_SIZE, HIDDEN = len(text.vocabulary), 32, 16, 64


def forward(tokens):
    core = hk.GRU(HIDDEN)
    one_hot = jax.nn.one_hot(tokens, VOCABULARY)  # [batch, time, vocabulary]
    outputs, _ = hk.dynamic_unroll(core, one_hot, core.initial_state(len(tokens)), time_major=False)
    return hk.BatchApply(hk.Linear(VOCABULARY))(outputs)


net = hk.without_apply_rng(hk.transform(forward))


def init(key):
    return net.init(key, jnp.zeros((1, LENGTH), jnp.int32))


def loss(params, batch, key):
    logits = net.apply(params, batch[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:]).mean()


def _rows(tokens, starts):
    return tokens[np.asarray(starts)[:, None] + np.arange(LENGTH + 1)]


def batches(key):
    while True:
        key, subkey = jax.random.split(key)
        yield _rows(text.train, jax.random.randint(subkey, (BATCH_SIZE,), 0, len(text.train) - LENGTH))


def held_out(key):
    return _rows(text.test, np.arange(0, len(text.test) - LENGTH, LENGTH))
