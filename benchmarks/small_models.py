"""Four models whose training steps `update_step.py --models` times, in plain JAX, on random data.

Each function returns (params, loss, data) with the loss `(params, *data) -> float32[]`. A width of 1 is the full size.
"""

from collections.abc import Callable
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

Model = tuple[Any, Callable[..., jax.Array], tuple[jax.Array, ...]]


def perceptron(width: float = 1.0) -> Model:
    """784-1024-1024-10, batch 128."""
    random, hidden = np.random.RandomState(0), round(1024 * width)
    params = [_linear(random, *sizes) for sizes in ((784, hidden), (hidden, hidden), (hidden, 10))]

    def loss(params, x, labels):
        *first, last = params
        for layer in first:
            x = jax.nn.relu(_apply(layer, x))
        return _cross_entropy(_apply(last, x), labels)

    return params, loss, (_normal(random, 128, 784), _integers(random, 10, 128))


def convolutional(width: float = 1.0) -> Model:
    """Three 3 × 3 convolutions with strides of 2, 64, 128 and 256 channels, a linear layer: 32 × 32 × 3, batch 64."""
    random = np.random.RandomState(0)
    channels = [3, *(round(number * width) for number in (64, 128, 256))]
    kernels = [
        {"w": _normal(random, 3, 3, a, b) / math.sqrt(9 * a), "b": jnp.zeros(b)}
        for a, b in itertools.pairwise(channels)
    ]
    params = {"kernels": kernels, "head": _linear(random, channels[-1], 10)}

    def loss(params, x, labels):
        for layer in params["kernels"]:
            x = jax.lax.conv_general_dilated(x, layer["w"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = jax.nn.relu(x + layer["b"])
        return _cross_entropy(_apply(params["head"], jnp.mean(x, axis=(1, 2))), labels)

    return params, loss, (_normal(random, 64, 32, 32, 3), _integers(random, 10, 64))


def transformer(width: float = 1.0) -> Model:
    """Six layers of width 256, eight heads, a vocabulary of 1,000, 102 tensors: eight sequences of 32 tokens."""
    random, size, heads, vocabulary, length = np.random.RandomState(0), round(256 * width), 8, 1000, 32
    norm = lambda: {"scale": jnp.ones(size), "bias": jnp.zeros(size)}
    layers = [
        {
            **{name: _linear(random, size, size) for name in ("query", "key", "value", "out")},
            "up": _linear(random, size, 4 * size),
            "down": _linear(random, 4 * size, size),
            "norms": [norm(), norm()],
        }
        for _ in range(6)
    ]
    embeddings = {"token": 0.05 * _normal(random, vocabulary, size), "position": 0.05 * _normal(random, length, size)}
    params = {"layers": layers, "embeddings": embeddings, "norm": norm(), "head": _linear(random, size, vocabulary)}
    mask = jnp.tril(jnp.ones((length, length), bool))
    split = lambda x: x.reshape(*x.shape[:2], heads, -1)

    def attend(layer, x):
        query, key, value = (split(_apply(layer[name], x)) for name in ("query", "key", "value"))
        scores = jnp.einsum("bthd,bshd->bhts", query, key) / math.sqrt(size / heads)
        shares = jax.nn.softmax(jnp.where(mask, scores, -1e9))
        return _apply(layer["out"], jnp.einsum("bhts,bshd->bthd", shares, value).reshape(x.shape))

    def loss(params, tokens):
        x = params["embeddings"]["token"][tokens[:, :-1]] + params["embeddings"]["position"]
        for layer in params["layers"]:
            x = x + attend(layer, _normalized(layer["norms"][0], x))
            x = x + _apply(layer["down"], jax.nn.gelu(_apply(layer["up"], _normalized(layer["norms"][1], x))))
        return _cross_entropy(_apply(params["head"], _normalized(params["norm"], x)), tokens[:, 1:])

    return params, loss, (_integers(random, vocabulary, 8, length + 1),)


def recurrent(width: float = 1.0) -> Model:
    """A gated recurrent unit (GRU) of 256 units, a vocabulary of 64: 32 sequences of 64 tokens."""
    random, size, vocabulary = np.random.RandomState(0), round(256 * width), 64
    gate = lambda: {"input": _linear(random, size, size), "hidden": _linear(random, size, size)}
    params = {
        "embedding": _normal(random, vocabulary, size),
        "gates": {name: gate() for name in ("reset", "update", "new")},
        "head": _linear(random, size, vocabulary),
    }

    def loss(params, tokens):
        gates = params["gates"]
        inputs = jnp.moveaxis(params["embedding"][tokens[:, :-1]], 1, 0)  # [time, batch, size]
        of_inputs = {name: _apply(gate["input"], inputs) for name, gate in gates.items()}

        def advance(hidden, current):
            part = {name: _apply(gate["hidden"], hidden) for name, gate in gates.items()}
            reset = jax.nn.sigmoid(current["reset"] + part["reset"])
            update = jax.nn.sigmoid(current["update"] + part["update"])
            new = jnp.tanh(current["new"] + reset * part["new"])
            hidden = update * hidden + (1.0 - update) * new
            return hidden, hidden

        _, hidden = jax.lax.scan(advance, jnp.zeros(inputs.shape[1:]), of_inputs)
        return _cross_entropy(_apply(params["head"], jnp.moveaxis(hidden, 0, 1)), tokens[:, 1:])

    return params, loss, (_integers(random, vocabulary, 32, 65),)


MODELS = {made.__name__: made for made in (perceptron, convolutional, transformer, recurrent)}


def _normal(random, *shape):
    return jnp.asarray(random.standard_normal(shape), jnp.float32)


def _integers(random, limit, *shape):
    return jnp.asarray(random.randint(limit, size=shape), jnp.int32)


def _linear(random, inputs, outputs):
    return {"w": _normal(random, inputs, outputs) / math.sqrt(inputs), "b": jnp.zeros(outputs)}


def _apply(layer, x):
    return x @ layer["w"] + layer["b"]


def _normalized(norm, x):
    return norm["scale"] * jax.nn.standardize(x) + norm["bias"]


def _cross_entropy(logits, labels):
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
