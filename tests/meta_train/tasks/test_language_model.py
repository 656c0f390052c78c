"""Language models: windows, held-out loss and causality of the recurrent and the transformer models."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import data
from meta_train import tasks
from meta_train.tasks.variation import FIXED

# Token t is followed by t + 1 modulo 7, but for the held-out part, which runs backwards.
TEXT = data.Text(
    train=(np.arange(300) % 7).astype(np.int32), test=(-np.arange(60) % 7).astype(np.int32), vocabulary=tuple("abcdefg")
)


def _successor(tokens, num_tokens):
    """Sure of the next token, by 5 nats against the rest together."""
    return jax.nn.one_hot((tokens + 1) % num_tokens, num_tokens) * jnp.log((num_tokens - 1) * jnp.exp(5.0))


def test_losses_of_a_model_that_knows_the_rule():
    task = tasks.language_model("rule", TEXT, _successor, length=4, batch_size=3, variation=FIXED)
    right = np.log1p(np.exp(-5.0))
    loss = jax.jit(lambda key, data: task.loss({}, key, data, ()))(jax.random.key(0), task.data)
    np.testing.assert_allclose(loss, right, rtol=1e-4)
    wrong = right + np.log(6) + 5.0
    held_out = jax.jit(lambda data: task.evaluate({}, None, data, ())["loss"])(task.data)
    np.testing.assert_allclose(held_out, wrong, rtol=1e-5)
    np.testing.assert_allclose(task.scale, np.log(7))


def test_windows_are_drawn_from_all_of_the_text():
    """The loss of a model that cannot look at the text tells which token was drawn."""
    text = TEXT._replace(train=np.arange(9, dtype=np.int32) % 7)
    free = lambda tokens, num_tokens: jnp.zeros((*tokens.shape, num_tokens)).at[..., 0].set(1.0)
    task = tasks.language_model("free", text, free, length=7, batch_size=1, variation=FIXED)
    loss = jax.jit(lambda key, data: task.loss({}, key, data, ()))
    losses = {float(loss(key, task.data)) for key in jax.random.split(jax.random.key(0), 20)}
    assert len(losses) == 1  # 7 of 7 tokens, wherever the window begins
    task = tasks.language_model("free", text, free, length=1, batch_size=1, variation=FIXED)
    losses = jax.jit(jax.vmap(lambda key, data: task.loss({}, key, data, ()), (0, None)))(
        jax.random.split(jax.random.key(0), 200), task.data
    )
    share = np.mean(np.asarray(losses) < 1.5)  # the only zero that is a successor is the eighth token
    assert abs(share - 1 / 8) < 4 * np.sqrt(1 / 8 / 200)


ONE_WINDOW = TEXT._replace(test=np.zeros(7, np.int32))


@pytest.mark.parametrize(
    "build",
    [
        *[
            lambda core=core: tasks.recurrent_language_model("rnn", ONE_WINDOW, core=core, hidden_size=5, length=6)
            for core in (hk.VanillaRNN, hk.GRU, hk.LSTM)
        ],
        lambda: tasks.transformer_language_model("transformer", ONE_WINDOW, width=4, length=6, num_heads=1),
    ],
)
def test_every_character_of_a_window_matters(build):
    task = build()
    random = np.random.RandomState(1)
    params = jax.jit(task.init)(jax.random.key(0), ())
    params = jax.tree.map(lambda p: np.float32(p + 0.5 * random.standard_normal(p.shape)), params)
    loss = jax.jit(lambda window: task.evaluate(params, None, task.data._replace(test=window), ())["loss"])
    changed = [loss(np.where(np.arange(7) == place, 3, 0).astype(np.int32)) for place in range(7)]
    assert np.all(np.abs(np.array(changed) - loss(np.zeros(7, np.int32))) > 1e-6)


def test_texts_too_short_for_a_window():
    with pytest.raises(ValueError, match="below the 60 held-out characters of the text, got 60"):
        tasks.transformer_language_model("long", TEXT, length=60)
    with pytest.raises(ValueError, match="length must be at least 1"):
        tasks.transformer_language_model("short", TEXT, length=0)
