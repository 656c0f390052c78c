"""The per-parameter MLP against its published definition (small_fc of Metz et al. 2022), written again in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_optim


def _theta(sizes):
    random = np.random.RandomState(0)
    layers = {}
    for index, (num_in, num_out) in enumerate(itertools.pairwise(sizes)):
        name = f"linear_{index}" if index else "linear"
        layers[name] = {"b": random.standard_normal(num_out), "w": random.standard_normal((num_in, num_out))}
    return layers


def _published_update(theta, grads, param):
    """The updates of one tensor at its successive gradients, in float64: 19 inputs, then -1e-3 d exp(1e-3 a)."""
    decays = [0.1, 0.5, 0.9, 0.99, 0.999, 0.9999]
    momenta = [np.zeros_like(param) for _ in decays]
    updates = []
    for step, grad in enumerate(grads):
        momenta = [decay * m + (1 - decay) * grad for decay, m in zip(decays, momenta, strict=True)]
        columns = [x / np.sqrt(1e-5 + np.mean(x**2)) for x in (grad, param, *momenta)]
        times = [np.tanh(step / s - 1) for s in (1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5)]
        inputs = np.stack([np.ravel(c) for c in columns] + [np.full(param.size, t) for t in times], axis=1)
        assert inputs.shape == (param.size, 19)
        for index, layer in enumerate(theta.values()):
            inputs = (np.maximum(inputs, 0) if index else inputs) @ layer["w"] + layer["b"]
        direction, magnitude = inputs.T
        updates.append(np.reshape(-1e-3 * direction * np.exp(1e-3 * magnitude), param.shape))
        param = param + updates[-1]
    return updates


def _to_float32(tree):
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf, np.float32)), tree)


@pytest.mark.parametrize("hidden_sizes", [(32, 32), (5,), (4, 3, 6)])
def test_three_steps_equal_the_published_definition(hidden_sizes):
    theta = _theta((19, *hidden_sizes, 2))
    random = np.random.RandomState(1)
    params = {"b": random.standard_normal(4), "w": random.standard_normal((3, 2))}
    grads = [{name: random.standard_normal(p.shape) * 10.0**-k for name, p in params.items()} for k in range(3)]
    expected = {name: _published_update(theta, [g[name] for g in grads], p) for name, p in params.items()}

    tx = learned_optim.mlp(hidden_sizes).transform(_to_float32(theta))
    update_fn = jax.jit(tx.update)
    moving = _to_float32(params)
    state = tx.init(moving)
    for step, grad in enumerate(grads):
        updates, state = update_fn(_to_float32(grad), state, moving)
        moving = jax.tree.map(jnp.add, moving, updates)
        for name, update in updates.items():
            want = expected[name][step]
            np.testing.assert_allclose(update, want, rtol=0, atol=1e-5 * np.max(np.abs(want)))


def test_multipliers_scale_direction_and_log_step():
    """A network whose outputs are its last biases: d = 2, a = 3."""
    theta = jax.tree.map(np.zeros_like, _theta((19, 4, 2)))
    theta["linear_1"]["b"] = np.array([2.0, 3.0])
    tx = learned_optim.mlp((4,), step_multiplier=0.1, magnitude_multiplier=0.5).transform(_to_float32(theta))
    params = jnp.ones(3)
    updates, _ = tx.update(params, tx.init(params), params)
    np.testing.assert_allclose(updates, -0.1 * 2 * np.exp(0.5 * 3), rtol=1e-6)


def test_defaults_are_the_paper_s():
    optimizer = learned_optim.mlp()
    assert optimizer.spec == {
        "kind": "mlp",
        "feature_version": 1,
        "hidden_sizes": [32, 32],
        "step_multiplier": 1e-3,
        "magnitude_multiplier": 1e-3,
    }
    skeleton = jax.eval_shape(optimizer.init, jax.random.key(0))
    assert [layer["w"].shape for layer in skeleton.values()] == [(19, 32), (32, 32), (32, 2)]


@pytest.mark.parametrize("hidden_sizes", [(), [], (0,), (4, 0), (-1, 4), (4.5,), 32])
def test_bad_sizes_are_an_error(hidden_sizes):
    with pytest.raises(ValueError, match="hidden_sizes must be a non-empty sequence of whole numbers from 1 on"):
        learned_optim.mlp(hidden_sizes)
