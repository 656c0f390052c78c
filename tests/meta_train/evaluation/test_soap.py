"""SOAP: a restatement in NumPy, runs side by side, and what keeps the standard basis."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train.evaluation import soap

B1, B2, EPS = 0.9, 0.8, 1e-8


def _restated(grads, refresh):
    """Directions of square matrices float64[steps, n, n], after algorithm 3 of the paper."""
    m, v = np.zeros_like(grads[0]), np.zeros_like(grads[0])
    left, right = (1 - B2) * grads[0] @ grads[0].T, (1 - B2) * grads[0].T @ grads[0]
    rows, columns = np.linalg.eigh(left)[1], np.linalg.eigh(right)[1]
    yield np.zeros_like(m)
    for t, g in enumerate(grads[1:], start=1):
        m = B1 * m + (1 - B1) * g
        v = B2 * v + (1 - B2) * (rows.T @ g @ columns) ** 2
        n = (rows.T @ m @ columns) / (1 - B1**t) / (np.sqrt(v / (1 - B2**t)) + EPS)
        yield rows @ n @ columns.T
        left, right = B2 * left + (1 - B2) * g @ g.T, B2 * right + (1 - B2) * g.T @ g
        if t % refresh == 0:
            rows, columns = np.linalg.qr(left @ rows)[0], np.linalg.qr(right @ columns)[0]


def _directions(tx, grads):
    state, made = tx.init(jax.tree.map(lambda g: jnp.zeros_like(g[0]), grads)), []
    update = jax.jit(tx.update)
    for number in range(len(jax.tree.leaves(grads)[0])):
        updates, state = update(jax.tree.map(lambda g, number=number: g[number], grads), state)
        made.append(updates)
    return jax.tree.map(lambda *x: np.stack(x), *made)


@pytest.mark.optax_promotion
def test_it_is_the_algorithm_of_the_paper():
    """Matrices, filters as matrices, and vectors, which are Adam's."""
    random = np.random.default_rng(0)
    mixing = np.diag([3.0, 1.0, 0.3, 0.1])
    grads = [mixing @ random.normal(size=(4, 4)) @ mixing.T for _ in range(7)]
    vectors = random.normal(size=(7, 3))
    tree = {
        "filters": jnp.asarray(np.stack(grads).reshape(7, 2, 2, 4), jnp.float32),
        "vector": jnp.asarray(vectors, jnp.float32),
        "weights": jnp.asarray(np.stack(grads), jnp.float32),
    }
    made = _directions(soap.scale_by_soap(B1, B2, EPS, refresh=3), tree)
    expected = np.stack(list(_restated(grads, 3)))
    np.testing.assert_allclose(made["weights"], expected, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(made["filters"].reshape(7, 4, 4), expected, rtol=2e-3, atol=2e-3)
    adam = _directions(optax.scale_by_adam(B1, B2, EPS), {"vector": tree["vector"][1:]})
    np.testing.assert_allclose(made["vector"][1:], adam["vector"], rtol=1e-5)
    np.testing.assert_array_equal(made["vector"][0], 0.0)


@pytest.mark.optax_promotion
def test_long_sides_keep_the_standard_basis():
    """Without any basis, it is Adam from the second gradient on."""
    grads = jnp.asarray(np.random.default_rng(1).normal(size=(5, 4, 3)), jnp.float32)
    none = _directions(soap.scale_by_soap(B1, B2, EPS, max_size=2), grads)
    np.testing.assert_allclose(none[1:], _directions(optax.scale_by_adam(B1, B2, EPS), grads[1:]), rtol=1e-5)
    state = soap.scale_by_soap(max_size=3).init(grads[0])
    rows, columns = state.sides[0]
    assert rows is None
    assert columns.basis.shape == (3, 3)


def test_runs_side_by_side_are_those_alone_and_refresh_seldom():
    """The condition on the counter stays a condition: no selection between bases."""
    tx = soap.scale_by_soap(B1, B2, EPS, refresh=2)
    grads = jnp.asarray(np.random.default_rng(2).normal(size=(3, 5, 3, 3)), jnp.float32)

    def run(state, grads):
        def body(state, grad):
            moved, state = tx.update(grad, state)
            return state, moved

        return jax.lax.scan(body, state, grads)[1]

    states = jax.vmap(tx.init)(grads[:, 0])  # each with a counter of its own, as in `lanes`
    together = jax.jit(jax.vmap(run))(states, grads)
    for lane, alone in zip(together, grads, strict=True):
        np.testing.assert_allclose(lane, jax.jit(run)(tx.init(alone[0]), alone), rtol=1e-2, atol=1e-3)
    text = str(jax.make_jaxpr(jax.vmap(run))(states, grads))
    assert text.count("cond[") == 2  # one for each side


def test_rate_and_decay():
    params, grads = {"w": jnp.asarray([2.0, -2.0])}, {"w": jnp.asarray([3.0, 5.0])}
    tx = soap.soap(0.1, weight_decay=0.5)
    updates, state = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], [-0.1, 0.1], rtol=1e-5)
    updates, _ = tx.update(grads, state, params)
    np.testing.assert_allclose(updates["w"], [-0.2, 0.0], rtol=1e-5, atol=1e-7)
