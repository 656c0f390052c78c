"""The coordinatewise LSTM against its published definition (Andrychowicz et al. 2016), written again in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_optim
from learned_optim.optimizers.coordinatewise_lstm import by_units


def _theta(hidden_size, num_layers):
    random = np.random.RandomState(0)
    theta = {"linear": {"b": random.standard_normal(1), "w": random.standard_normal((hidden_size, 1))}}
    for layer in range(num_layers):
        shape = ((hidden_size if layer else 2) + hidden_size, 4 * hidden_size)
        weights = {"b": 0.5 * random.standard_normal(shape[1]), "w": 0.5 * random.standard_normal(shape)}
        theta[f"lstm_{layer}/linear"] = weights
    return theta


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _published_updates(theta, grads, num_layers, hidden_size):
    """The updates of one coordinate at its successive gradients, in float64: 0.1 times the network's output."""
    hidden, cell = np.zeros((num_layers, hidden_size)), np.zeros((num_layers, hidden_size))
    updates = []
    for grad in grads:
        large = abs(grad) >= np.exp(-10)
        x = np.array([np.log(abs(grad)) / 10, np.sign(grad)] if large else [-1, np.exp(10) * grad])
        for layer in range(num_layers):
            weights = theta[f"lstm_{layer}/linear"]
            i, g, f, o = np.split(np.concatenate([x, hidden[layer]]) @ weights["w"] + weights["b"], 4)
            cell[layer] = _sigmoid(f + 1) * cell[layer] + _sigmoid(i) * np.tanh(g)
            x = hidden[layer] = _sigmoid(o) * np.tanh(cell[layer])
        updates.append(0.1 * (x @ theta["linear"]["w"] + theta["linear"]["b"])[0])
    return updates


def _to_float32(tree):
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf, np.float32)), tree)


@pytest.mark.parametrize(("hidden_size", "num_layers"), [(20, 2), (3, 1), (2, 3)])
def test_three_steps_equal_the_published_definition(hidden_size, num_layers):
    """Gradients from 1 down to 1e-7, on both sides of the threshold exp(-10) = 4.5e-5."""
    theta, random = _theta(hidden_size, num_layers), np.random.RandomState(1)
    shapes = {"b": (4,), "w": (3, 2)}
    grads = [
        {name: random.standard_normal(shape) * 10.0 ** random.uniform(-7, 0, shape) for name, shape in shapes.items()}
        for _ in range(3)
    ]
    tx = learned_optim.coordinatewise_lstm(hidden_size, num_layers).transform(_to_float32(theta))
    params = {name: jnp.ones(shape) for name, shape in shapes.items()}
    update_fn, state, actual = jax.jit(tx.update), tx.init(params), []
    for grad in grads:
        updates, state = update_fn(_to_float32(grad), state, params)
        actual.append(updates)
    for name, shape in shapes.items():
        for index in np.ndindex(shape):
            want = _published_updates(theta, [grad[name][index] for grad in grads], num_layers, hidden_size)
            np.testing.assert_allclose([updates[name][index] for updates in actual], want, rtol=1e-5, atol=1e-6)


def test_output_scale_and_threshold_are_arguments():
    theta = _to_float32(_theta(3, 1))
    first_update = lambda optimizer, grad: optimizer.transform(theta).update(
        jnp.asarray([grad]), optimizer.transform(theta).init(jnp.ones(1)), jnp.ones(1)
    )[0]
    default = learned_optim.coordinatewise_lstm(3, 1)
    louder = learned_optim.coordinatewise_lstm(3, 1, output_scale=0.3)
    np.testing.assert_allclose(first_update(louder, 0.5), 3 * first_update(default, 0.5), rtol=1e-6)
    # At p = 5, exp(-15) gives the inputs (-1, exp(-10)); at p = 10, exp(-20) gives the same.
    other = learned_optim.coordinatewise_lstm(3, 1, preprocess_p=5.0)
    np.testing.assert_allclose(first_update(other, np.exp(-15)), first_update(default, np.exp(-20)), rtol=1e-6)


def test_defaults_are_the_paper_s():
    optimizer = learned_optim.coordinatewise_lstm()
    assert optimizer.spec == {
        "kind": "coordinatewise_lstm",
        "feature_version": 1,
        "hidden_size": 20,
        "num_layers": 2,
        "output_scale": 0.1,
        "preprocess_p": 10.0,
    }
    skeleton = jax.eval_shape(optimizer.init, jax.random.key(0))
    assert {name: layer["w"].shape for name, layer in skeleton.items()} == {
        "linear": (20, 1),
        "lstm_0/linear": (22, 80),
        "lstm_1/linear": (40, 80),
    }


SHAPES = {"bias": (4,), "conv": (2, 3, 2), "kernel": (3, 2, 5, 4), "scale": (), "w": (3, 5)}


def _updates(optimizer, theta, names):
    """Of two steps, at gradients that depend on the name alone."""
    random = {name: np.random.RandomState(seed) for seed, name in enumerate(SHAPES)}
    grads = [{name: random[name].standard_normal(SHAPES[name]) for name in names} for _ in range(2)]
    tx = optimizer.transform(theta)
    params = {name: jnp.ones(SHAPES[name]) for name in names}
    state, made = tx.init(params), []
    for grad in grads:
        updates, state = tx.update(_to_float32(grad), state, params)
        made.append(updates)
    return made


def test_separate_kernels_have_a_network_of_their_own():
    """Tensors of three dimensions or more are updated by one network, all others by the other."""
    plain, separate = (learned_optim.coordinatewise_lstm(3, 2, separate_kernels=on) for on in (False, True))
    first, second = (plain.init(jax.random.key(seed)) for seed in (1, 2))
    both = _updates(separate, {"kernels": first, "rest": second}, SHAPES)
    for theta, names in ((first, ("conv", "kernel")), (second, ("bias", "scale", "w"))):
        for have, want in zip(both, _updates(plain, theta, names), strict=True):
            for name in names:
                np.testing.assert_allclose(have[name], want[name], rtol=1e-6, atol=1e-8)
    assert not np.allclose(both[0]["kernel"], _updates(plain, second, ("kernel",))[0]["kernel"])


def test_separate_kernels_start_from_different_weights():
    plain, separate = (learned_optim.coordinatewise_lstm(3, 2, separate_kernels=on) for on in (False, True))
    theta = separate.init(jax.random.key(0))
    assert sorted(theta) == ["kernels", "rest"]
    for group in theta.values():
        assert jax.tree.structure(group) == jax.tree.structure(plain.init(jax.random.key(0)))
    assert not np.allclose(theta["kernels"]["linear"]["w"], theta["rest"]["linear"]["w"])


def test_separate_kernels_are_saved_and_loaded(tmp_path):
    optimizer = learned_optim.coordinatewise_lstm(3, 1, separate_kernels=True)
    assert optimizer.spec["separate_kernels"] is True
    theta = optimizer.init(jax.random.key(0))
    learned_optim.save(tmp_path / "a.safetensors", optimizer, theta)
    loaded, loaded_theta = learned_optim.load(tmp_path / "a.safetensors")
    assert loaded.spec == optimizer.spec
    jax.tree.map(np.testing.assert_array_equal, loaded_theta, theta)


def test_a_theta_for_one_network_does_not_fit_two():
    plain, separate = (learned_optim.coordinatewise_lstm(3, 2, separate_kernels=on) for on in (False, True))
    with pytest.raises(ValueError, match="theta must come from the init"):
        separate.transform(plain.init(jax.random.key(0)))


def test_state_holds_hidden_and_cell_of_each_layer_for_each_coordinate():
    optimizer = learned_optim.coordinatewise_lstm(5, 3)
    state = optimizer.transform(_to_float32(_theta(5, 3))).init({"w": jnp.ones((2, 3))})
    assert sorted(leaf.shape for leaf in jax.tree.leaves(state)) == [()] + [(2, 3, 5)] * 6


@pytest.mark.parametrize(("hidden_size", "num_layers"), [(0, 2), (20, 0), (-1, 1), (1, -1)])
def test_bad_sizes_are_an_error(hidden_size, num_layers):
    with pytest.raises(ValueError, match=rf"must be at least 1, got {min(hidden_size, num_layers)}"):
        learned_optim.coordinatewise_lstm(hidden_size, num_layers)


@pytest.mark.parametrize("separate_kernels", [False, True])
def test_by_units_gives_the_same_updates_from_the_same_theta(separate_kernels):
    plain = learned_optim.coordinatewise_lstm(3, 2, output_scale=0.3, separate_kernels=separate_kernels)
    theta = plain.init(jax.random.key(0))
    assert by_units(plain).spec == plain.spec
    for have, want in zip(_updates(by_units(plain), theta, SHAPES), _updates(plain, theta, SHAPES), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), have, want)


def test_by_units_of_another_kind_is_an_error():
    with pytest.raises(ValueError, match="by_units needs a coordinatewise_lstm, got a learned_sgd"):
        by_units(learned_optim.learned_sgd())
