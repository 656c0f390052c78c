"""The Celo2 optimizer against the paper's equations, written again in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_optim

SHAPES = {"bias": (4,), "kernel": (3, 2, 5, 4), "scale": (), "w": (5, 3)}


def _theta(hidden_sizes):
    random = np.random.RandomState(0)
    sizes = [30, *hidden_sizes, 1]
    normal = random.standard_normal
    layers = [{"w": normal(shape), "b": normal(shape[1])} for shape in itertools.pairwise(sizes)]
    return {f"linear_{i}" if i else "linear": layer for i, layer in enumerate(layers)}


def _tree(seed):
    random = np.random.RandomState(seed)
    return {name: random.standard_normal(shape) for name, shape in SHAPES.items()}


def _float32(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


def _normalized(x):
    return x / np.sqrt(1e-5 + np.mean(x**2))


def _directions(theta, grads, param):
    """The network's outputs at successive gradients of one tensor whose parameter stays where it is, in float64."""
    betas = (0.9, 0.99, 0.999)
    ms, rs, cs, v, made = [0.0] * 3, [0.0] * 3, [0.0] * 3, 0.0, []
    for g in grads:
        ms = [b * m + (1 - b) * g for b, m in zip(betas, ms, strict=True)]
        v = 0.95 * v + 0.05 * g**2
        if g.ndim < 2:
            rs = [b * r + (1 - b) * g**2 for b, r in zip(betas, rs, strict=True)]
            cs = rs
            g_factors, m_factors = ([1 / np.sqrt(r + eps) for r in rs] for eps in (1e-9, 1e-6))
        else:
            *_, second, largest = (int(axis) for axis in np.argsort(g.shape, kind="stable"))
            rs = [b * r + (1 - b) * np.mean(g**2, axis=largest, keepdims=True) for b, r in zip(betas, rs, strict=True)]
            cs = [b * c + (1 - b) * np.mean(g**2, axis=second, keepdims=True) for b, c in zip(betas, cs, strict=True)]
            g_factors = [np.sqrt(np.mean(r, axis=second, keepdims=True) / (r * c)) for r, c in zip(rs, cs, strict=True)]
            m_factors = g_factors
        root = np.sqrt(v + 1e-8)
        features = [g, param, *ms, v, *[m / root for m in ms], 1 / root, *[g * factor for factor in g_factors]]
        features += [*rs, *cs, *[1 / np.sqrt(x + 1e-8) for x in (*rs, *cs)]]
        features += [*[m * factor for m, factor in zip(ms, m_factors, strict=True)], np.clip(g, -0.1, 0.1), g / root]
        hidden = np.stack([np.broadcast_to(_normalized(x), g.shape) for x in features], axis=-1)
        assert hidden.shape == (*g.shape, 30)
        for layer in theta:
            hidden = (np.maximum(hidden, 0) if layer != "linear" else hidden) @ theta[layer]["w"] + theta[layer]["b"]
        made.append(hidden[..., 0])
    return made


def _run(tx, params, grads):
    update_fn, state, made = jax.jit(tx.update), tx.init(params), []
    for grad in grads:
        updates, state = update_fn(grad, state, params)
        made.append(updates)
    return made


def _case(**options):
    theta, params, grads = _theta((8, 8)), _tree(1), [_tree(seed) for seed in (2, 3, 4)]
    tx = learned_optim.celo2(**options).transform(_float32(theta))
    return theta, params, grads, _run(tx, _float32(params), [_float32(grad) for grad in grads])


def test_three_steps_equal_the_definition():
    theta, params, grads, made = _case(vector_step_multiplier=None)
    for name in SHAPES:
        expected = [
            -1e-3 * d / np.sqrt(np.mean(d**2)) for d in _directions(theta, [g[name] for g in grads], params[name])
        ]
        for have, want in zip(made, expected, strict=True):
            np.testing.assert_allclose(have[name], want, rtol=0, atol=2e-5 * np.max(np.abs(want)))


@pytest.mark.optax_promotion
def test_vectors_get_adam_at_twenty_times_the_step():
    _, params, grads, made = _case(step_size=1e-2)
    adam = optax.adam(20 * 1e-2, b1=0.9, b2=0.95)
    vectors = lambda tree: _float32({name: tree[name] for name in ("bias", "scale")})
    for have, want in zip(made, _run(adam, vectors(params), [vectors(grad) for grad in grads]), strict=True):
        for name, leaf in want.items():
            np.testing.assert_allclose(have[name], leaf, rtol=1e-5)


def test_every_matrix_moves_by_the_step_size():
    *_, made = _case(step_size=3e-3)
    for name in ("kernel", "w"):
        np.testing.assert_allclose([np.sqrt(np.mean(updates[name] ** 2)) for updates in made], 3e-3, rtol=1e-5)


@pytest.mark.parametrize("name", ["kernel", "w"])
def test_newton_schulz_makes_matrices_nearly_orthogonal(name):
    """The iteration's coefficients bring singular values between .7 and 1.2, up to the normalization that follows."""
    theta, params, grads, made = _case(newton_schulz_steps=8)
    direction = _directions(theta, [g[name] for g in grads], params[name])[-1]
    before = np.linalg.svd(direction.reshape(-1, direction.shape[-1]), compute_uv=False)
    u = np.asarray(made[-1][name])
    after = np.linalg.svd(u.reshape(-1, u.shape[-1]), compute_uv=False)
    assert before.max() / before.min() > 3
    assert after.max() / after.min() < 2
    np.testing.assert_allclose(np.sqrt(np.mean(u**2)), 1e-3, rtol=1e-5)


def test_bad_arguments_are_an_error():
    with pytest.raises(ValueError, match="newton_schulz_steps must be at least 0, got -1"):
        learned_optim.celo2(newton_schulz_steps=-1)
    with pytest.raises(ValueError, match="hidden_sizes must be a non-empty sequence"):
        learned_optim.celo2(hidden_sizes=())
