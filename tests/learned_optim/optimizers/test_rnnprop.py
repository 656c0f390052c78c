"""RNNprop against its published definition (Lv et al. 2017), written again in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_optim
from learned_optim.optimizers.rnnprop import by_units

SHAPES = {"bias": (4,), "kernel": (3, 2, 5, 4), "scale": (), "w": (3, 5)}


def _theta(hidden_size, num_layers):
    random = np.random.RandomState(0)
    normal = lambda *shape: 0.5 * random.standard_normal(shape)
    theta = {"inputs": {"b": normal(hidden_size), "w": normal(2, hidden_size)}}
    theta["linear"] = {"b": normal(1), "w": normal(hidden_size, 1)}
    for layer in range(num_layers):
        theta[f"lstm_{layer}/linear"] = {"b": normal(4 * hidden_size), "w": normal(2 * hidden_size, 4 * hidden_size)}
    return theta


def _tree(seed, scale=1.0):
    random = np.random.RandomState(seed)
    return {name: scale * random.standard_normal(shape) for name, shape in SHAPES.items()}


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _published_updates(theta, grads, num_layers, hidden_size, output_scale, b1, b2):
    """The updates of one tensor at its successive gradients, in float64."""
    shape = grads[0].shape
    hidden = [np.zeros((*shape, hidden_size))] * num_layers
    cell, m, v, updates = list(hidden), 0.0, 0.0, []
    for t, g in enumerate(grads, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        root = np.sqrt(v / (1 - b2**t)) + 1e-8
        x = np.stack([g / root, m / (1 - b1**t) / root], axis=-1) @ theta["inputs"]["w"] + theta["inputs"]["b"]
        x = np.where(x > 0, x, np.exp(x) - 1)
        for layer in range(num_layers):
            weights = theta[f"lstm_{layer}/linear"]
            gates = np.concatenate([x, hidden[layer]], axis=-1) @ weights["w"] + weights["b"]
            i, j, f, o = np.split(gates, 4, axis=-1)
            cell[layer] = _sigmoid(f + 1) * cell[layer] + _sigmoid(i) * np.tanh(j)
            x = hidden[layer] = _sigmoid(o) * np.tanh(cell[layer])
        updates.append(-output_scale * np.tanh((x @ theta["linear"]["w"] + theta["linear"]["b"])[..., 0]))
    return updates


def _float32(tree):
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf, np.float32)), tree)


def _run(tx, grads):
    params = jax.tree.map(jnp.ones_like, grads[0])
    update_fn, state, made = jax.jit(tx.update), tx.init(params), []
    for grad in grads:
        updates, state = update_fn(grad, state, params)
        made.append(updates)
    return made, state


@pytest.mark.parametrize(
    ("hidden_size", "num_layers", "options"),
    [(20, 2, {}), (3, 1, {"output_scale": 0.5, "b1": 0.9, "b2": 0.999}), (2, 3, {"b1": 0.0, "b2": 0.5})],
)
def test_four_steps_equal_the_published_definition(hidden_size, num_layers, options):
    theta, grads = _theta(hidden_size, num_layers), [_tree(seed, 10.0 ** (1 - seed)) for seed in (1, 2, 3, 4)]
    tx = learned_optim.rnnprop(hidden_size, num_layers, **options).transform(_float32(theta), num_steps=4)
    made, _ = _run(tx, [_float32(grad) for grad in grads])
    values = {"output_scale": 0.1, "b1": 0.95, "b2": 0.95} | options
    for name in SHAPES:
        expected = _published_updates(theta, [grad[name] for grad in grads], num_layers, hidden_size, **values)
        for have, want in zip([updates[name] for updates in made], expected, strict=True):
            np.testing.assert_allclose(have, want, rtol=0, atol=2e-5 * np.max(np.abs(want)))


def test_by_units_gives_the_same_updates_from_the_same_theta():
    plain = learned_optim.rnnprop(3, 2, output_scale=0.5, b1=0.9)
    theta, grads = _float32(_theta(3, 2)), [_float32(_tree(seed)) for seed in (1, 2, 3)]
    assert by_units(plain).spec == plain.spec
    have, want = (_run(optimizer.transform(theta), grads)[0] for optimizer in (by_units(plain), plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), have, want)


def test_by_units_of_another_kind_is_an_error():
    with pytest.raises(ValueError, match="by_units needs a rnnprop, got a learned_sgd"):
        by_units(learned_optim.learned_sgd())


@pytest.mark.parametrize("scale", [1e-4, 1e4, 1e14])
def test_the_scale_of_the_gradients_does_not_matter(scale):
    """Down to where epsilon is felt."""
    tx = learned_optim.rnnprop(3, 1).transform(_float32(_theta(3, 1)))
    grads = [_float32(_tree(seed)) for seed in (1, 2, 3)]
    plain, _ = _run(tx, grads)
    scaled, _ = _run(tx, jax.tree.map(lambda leaf: leaf * scale, grads))
    for have, want in zip(jax.tree.leaves(scaled), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(have, want, rtol=0, atol=1e-4)


def test_steps_are_below_the_output_scale():
    theta = jax.tree.map(lambda leaf: 100.0 * leaf, _float32(_theta(3, 1)))
    made, _ = _run(learned_optim.rnnprop(3, 1, output_scale=0.5).transform(theta), [_float32(_tree(1))])
    largest = max(float(np.max(np.abs(leaf))) for leaf in jax.tree.leaves(made))
    assert 0.49 < largest <= 0.5


def test_defaults_are_those_of_the_released_code():
    optimizer = learned_optim.rnnprop()
    assert optimizer.spec == {
        "kind": "rnnprop",
        "feature_version": 1,
        "hidden_size": 20,
        "num_layers": 2,
        "output_scale": 0.1,
        "b1": 0.95,
        "b2": 0.95,
    }
    theta = optimizer.init(jax.random.key(0))
    assert {name: layer["w"].shape for name, layer in theta.items()} == {
        "inputs": (2, 20),
        "linear": (20, 1),
        "lstm_0/linear": (40, 80),
        "lstm_1/linear": (40, 80),
    }
    assert 0.3 < float(np.std(theta["inputs"]["w"])) < 1.0  # 1 / √2, of a normal truncated at 2


def test_state_holds_two_moments_and_hidden_and_cell_of_each_layer():
    tx = learned_optim.rnnprop(5, 3).transform(_float32(_theta(5, 3)), moment_dtype=jnp.bfloat16)
    _, state = _run(tx, [{"w": jnp.ones((2, 3))}])
    slots = jax.tree.leaves(state.slots)  # m, v, then hidden and cell of each layer
    assert [slot.shape for slot in slots] == [(2, 3)] * 2 + [(2, 3, 5)] * 6
    assert [slot.dtype.name for slot in slots] == ["bfloat16"] + ["float32"] * 7
    assert [layer._fields for layer in state.slots.lstm] == [("hidden", "cell")] * 3


def test_derivatives_with_respect_to_theta_are_finite_where_gradients_vanish():
    grads = jnp.asarray([0.0, 1.0])

    def total(theta):
        tx = learned_optim.rnnprop(3, 1).transform(theta)
        step = lambda state, scale: tx.update(grads * scale, state, grads)[::-1]
        _, updates = jax.lax.scan(step, tx.init(grads), jnp.asarray([1.0, -2.0, 3.0]))
        return jnp.sum(updates)

    derivative = jax.jit(jax.grad(total))(_float32(_theta(3, 1)))
    assert all(np.all(np.isfinite(leaf)) and np.any(leaf != 0) for leaf in jax.tree.leaves(derivative))


@pytest.mark.parametrize(("hidden_size", "num_layers"), [(0, 2), (20, 0)])
def test_bad_sizes_are_an_error(hidden_size, num_layers):
    with pytest.raises(ValueError, match=rf"must be at least 1, got {min(hidden_size, num_layers)}"):
        learned_optim.rnnprop(hidden_size, num_layers)
    with pytest.raises(TypeError):
        learned_optim.rnnprop(2.5)


@pytest.mark.parametrize(("b1", "b2"), [(1.0, 0.95), (0.95, -0.1)])
def test_bad_decays_are_an_error(b1, b2):
    with pytest.raises(ValueError, match=rf"b1 and b2 must be at least 0 and below 1.*got {b1} and {b2}"):
        learned_optim.rnnprop(b1=b1, b2=b2)
