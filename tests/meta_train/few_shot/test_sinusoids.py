"""Sinusoids: each episode is one wave, whose amplitude and phase are where they should be."""

import jax
import numpy as np
import pytest

from meta_train.few_shot import sinusoids


def test_support_and_query_lie_on_one_wave():
    """a sin(x - p) = (a cos p) sin x - (a sin p) cos x: least squares give a and p, and no residual."""
    episodes = sinusoids(shots=10, queries=5)
    episode = jax.jit(jax.vmap(lambda key: episodes.sample(key, ())))(jax.random.split(jax.random.key(0), 300))
    (x, y), (query_x, query_y) = jax.tree.map(np.asarray, tuple(episode))
    assert x.shape == y.shape == (300, 10, 1) and query_x.shape == query_y.shape == (300, 5, 1)
    x, y = np.concatenate([x, query_x], 1)[..., 0], np.concatenate([y, query_y], 1)[..., 0]
    waves = []
    for inputs, targets in zip(x.astype(float), y, strict=True):
        basis = np.stack([np.sin(inputs), -np.cos(inputs)], axis=1)
        (cosine, sine), *_ = np.linalg.lstsq(basis, targets, rcond=None)
        np.testing.assert_allclose(basis @ [cosine, sine], targets, atol=1e-5)
        waves.append((np.hypot(cosine, sine), np.arctan2(sine, cosine)))
    for values, low, high in (*zip(np.transpose(waves), (0.1, 0.0), (5.0, np.pi), strict=True), (x.ravel(), -5, 5)):
        assert low - 1e-3 < values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() < high + 1e-3
        assert abs(values.mean() - (low + high) / 2) < 4 * (high - low) / np.sqrt(12 * 300)


def test_what_it_says_of_itself():
    episodes = sinusoids(shots=5)
    assert (episodes.name, episodes.num_outputs, episodes.input_shape) == ("sinusoids-5-shot", 1, (1,))
    assert (episodes.train, episodes.test, episodes.classifies) == ((), (), False)
    np.testing.assert_allclose(episodes.loss(np.array([[1.0], [3.0]]), np.array([[0.0], [1.0]])), 2.5)
    with pytest.raises(ValueError, match="shots and queries must be at least 1, got 0 and 10"):
        sinusoids(shots=0)
