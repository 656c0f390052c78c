"""Transformer blocks against NumPy, and causality."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.tasks.attention import transformer


def _model(**options):
    return hk.without_apply_rng(hk.transform(lambda x: transformer(x, **options)))


def _norm(p, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * p["scale"] + p["offset"]


@pytest.mark.parametrize("causal", [True, False])
def test_equals_numpy(causal):
    model = _model(num_layers=1, num_heads=2, widening=3, causal=causal)
    x = jax.random.normal(jax.random.key(0), (2, 5, 8))
    params = model.init(jax.random.key(1), x)
    keys = iter(jax.random.split(jax.random.key(2), 100))
    params = jax.tree.map(lambda p: p + 0.3 * jax.random.normal(next(keys), p.shape), params)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    h = np.asarray(x, np.float64)
    heads = (_norm(p["layer_norm"], h) @ p["linear"]["w"]).reshape(2, 5, 3, 2, 4)
    mixed = np.zeros((2, 5, 2, 4))
    for batch in range(2):
        for head in range(2):
            for place in range(5):
                last = place + 1 if causal else 5
                scores = heads[batch, :last, 1, head] @ heads[batch, place, 0, head] / 2.0
                weights = np.exp(scores - scores.max())
                mixed[batch, place, head] = weights / weights.sum() @ heads[batch, :last, 2, head]
    h = h + mixed.reshape(2, 5, 8) @ p["linear_1"]["w"] + p["linear_1"]["b"]
    hidden = _norm(p["layer_norm_1"], h) @ p["linear_2"]["w"] + p["linear_2"]["b"]
    assert hidden.shape == (2, 5, 24)
    hidden = 0.5 * hidden * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    h = h + hidden @ p["linear_3"]["w"] + p["linear_3"]["b"]
    np.testing.assert_allclose(model.apply(params, x), _norm(p["layer_norm_2"], h), rtol=2e-5, atol=2e-5)


def test_a_causal_model_does_not_look_ahead():
    model = _model(num_layers=2, num_heads=1, causal=True)
    x = jax.random.normal(jax.random.key(0), (1, 6, 4))
    params = model.init(jax.random.key(1), x)
    moves = jax.jacobian(lambda x: model.apply(params, x)[0, :, 0])(x)[:, 0]  # [place, input, width]
    seen = np.any(np.asarray(moves) != 0, axis=-1)
    np.testing.assert_array_equal(seen[np.triu_indices(6, 1)], False)
    assert np.all(np.diag(seen))
    assert seen[5, 0]


def test_heads_divide_the_width():
    with pytest.raises(ValueError, match="num_heads must divide the width, got 3 heads and width 4"):
        _model(num_layers=1, num_heads=3, causal=True).init(jax.random.key(0), jnp.zeros((1, 2, 4)))
