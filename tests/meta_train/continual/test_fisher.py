"""The Fisher of a softmax regression against its formula, with labels of the model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import continual


def _softmax_regression():
    """Parameters and inputs, the exact Fisher (the mean of x_j^2 p_c (1 - p_c)), and a label's variance about it."""
    w_key, x_key = jax.random.split(jax.random.key(0))
    w, x = jax.random.normal(w_key, (3, 4)), jax.random.normal(x_key, (5, 3))
    p = jax.nn.softmax(x @ w)
    exact = np.einsum("nj,nc->jc", x**2, p * (1 - p)) / len(x)
    variance = np.einsum("nj,nc->jc", x**4, p * (1 - p) ** 4 + (1 - p) * p**4 - (p * (1 - p)) ** 2) / len(x)
    return w, x, exact, variance


def test_it_is_that_of_a_softmax_regression():
    w, x, exact, variance = _softmax_regression()
    many = jnp.tile(x, (1000, 1))
    estimate = jax.jit(lambda key: continual.diagonal_fisher(lambda w, x: x @ w, w, many, key, chunk=5000))
    found = np.asarray(estimate(jax.random.key(1)))
    np.testing.assert_array_less(np.abs(found - exact), 4.5 * np.sqrt(variance / len(many)))
    assert np.median(np.sqrt(variance / len(many)) / exact) < 0.05
    empirical = np.square(x[:, :, None] * (jax.nn.one_hot(jnp.zeros(5, jnp.int32), 4) - jax.nn.softmax(x @ w))[:, None])
    assert np.max(np.abs(np.mean(empirical, axis=0) / exact - 1)) > 0.5  # labels of some data would not do


def test_chunks_change_nothing():
    w, x, _, _ = _softmax_regression()
    apply = lambda params, x: x @ params["w"] + params["b"]
    params = {"w": w, "b": jnp.zeros(4)}
    whole, parts = (continual.diagonal_fisher(apply, params, x, jax.random.key(2), chunk=chunk) for chunk in (100, 2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), whole, parts)
    assert float(jnp.min(whole["b"])) >= 0 and whole["w"].shape == (3, 4)


@pytest.mark.parametrize(("count", "chunk"), [(0, 4), (3, 0)])
def test_wrong_arguments(count, chunk):
    with pytest.raises(ValueError, match=f"got {count} inputs, chunk={chunk}"):
        continual.diagonal_fisher(
            lambda w, x: x @ w, jnp.ones((2, 2)), jnp.ones((count, 2)), jax.random.key(0), chunk=chunk
        )
