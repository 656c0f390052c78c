"""Batch normalization against NumPy."""

import haiku as hk
import jax
import numpy as np

from meta_train.tasks.batch_norm import batch_norm


def test_equals_numpy():
    model = hk.without_apply_rng(hk.transform(batch_norm))
    x = np.random.default_rng(0).normal(3.0, 2.0, (4, 3, 2, 5)).astype(np.float32)
    params = model.init(jax.random.key(0), x)
    assert jax.tree.map(lambda leaf: leaf.shape, params) == {"batch_norm": {"offset": (5,)}}
    offset = np.arange(5, dtype=np.float32)
    rows = x.astype(np.float64).reshape(-1, 5)
    expected = (rows - rows.mean(axis=0)) / np.sqrt(rows.var(axis=0) + 1e-3) + offset
    have = model.apply({"batch_norm": {"offset": offset}}, x)
    np.testing.assert_allclose(have, expected.reshape(x.shape), rtol=1e-4, atol=1e-5)
