"""The hierarchical MLP against its definition (Metz et al. 2020), written again in NumPy."""

import pathlib
import runpy
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_optim

_REFERENCE = pathlib.Path(__file__).parents[2] / "reference"
reference = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "velo_parts.py")))

SHAPES = {"bias": (4,), "kernel": (3, 2, 1, 4), "scale": (), "w": (3, 5)}
LOSSES = (3.0, 2.0, 9.0, -0.5)
DECAYS = (0.5, 0.9, 0.99, 0.999, 0.9999)


def _optimizer(hidden_sizes=(4, 3), **options):
    return learned_optim.hierarchical_mlp(hidden_sizes, 5, **options)


def _theta(optimizer, seed=0):
    return reference.random_theta(jax.eval_shape(optimizer.init, jax.random.key(0)), seed)


def _tree(seed, scale=1.0):
    random = np.random.RandomState(seed)
    return {name: scale * (random.standard_normal(shape) + 0.3) for name, shape in SHAPES.items()}


# The third gradient is larger than the bound on it; the first tensor of the first one is larger than 10.
GRADS = [_tree(seed + 2, scale) for seed, scale in enumerate((1.0, 1e-2, 1e4, 1e-1))]
GRADS[0]["bias"] = 50.0 * GRADS[0]["bias"]
PARAMS = _tree(1)


def _log_magnitude(x):
    return np.clip(np.log(1e-8 + np.abs(x)), -5, 5)


def _loss_feature(losses):
    weights = 0.9 ** np.arange(len(losses))[::-1]
    means = [np.average(losses[:n], weights=weights[-n:]) for n in range(1, len(losses) + 1)]
    variance = np.average((np.array(losses) - means) ** 2, weights=weights)
    return np.clip((losses[-1] - means[-1]) / np.sqrt(variance + 1e-8), -5, 5)


def _tensor_features(g, p, ms, vs, loss, from_mlp, from_lstm):
    values = [np.mean(ms), np.mean(p), np.mean(vs), np.var(ms), np.var(p), np.var(vs)]
    values += [np.linalg.norm(p.ravel()), np.linalg.norm(g.ravel())]
    shape = [1.0 if p.ndim == 0 else -1.0, *(np.log((*p.shape, 1, 1, 1, 1)[:4]) - 1)]
    return np.concatenate([_log_magnitude(values), np.sign(values[:2]), shape, from_mlp, from_lstm, [loss]])


def _network(theta, g, p, ms, vs, step, num_tensors, from_lstm):
    """Outputs of all coordinates: [n, 18]."""
    columns = [g, p, np.log(np.abs(p) + 1e-8), *ms, *[m / np.sqrt(v + 1e-6) for m, v in zip(ms, vs, strict=True)]]
    columns += [*vs, *[1 / np.sqrt(v + 1e-6) for v in vs]]
    columns = [x.ravel() / np.sqrt(1e-5 + np.mean(x**2)) for x in columns]
    shared = [np.sin(step / (s * np.pi)) for s in (1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5)]
    shared += [np.log(num_tensors) - 1, np.log(np.linalg.norm(p.ravel()) + 1e-8), np.log(p.size), *from_lstm]
    hidden = np.concatenate([np.stack(columns, axis=1), np.tile(shared, (p.size, 1))], axis=1)
    assert hidden.shape == (p.size, 37 + 17)
    for index, name in enumerate(sorted(theta)):
        hidden = reference.linear(theta[name], np.maximum(hidden, 0) if index else hidden)
    return hidden


def _published_updates(theta, losses):
    """The updates of all tensors at their successive gradients, in float64."""
    names, params = sorted(SHAPES), dict(PARAMS)
    ms, vs = ({name: [np.zeros(SHAPES[name])] * 5 for name in names} for _ in range(2))
    hidden, cell = (np.tile(theta["first_state"][name], (len(names), 1)) for name in ("hidden", "cell"))
    from_mlp, from_lstm = dict.fromkeys(names, theta["first_from_mlp"]), theta["first_from_lstm"]
    size, made = 0.01, []
    for step, grads in enumerate(GRADS):
        bound = 10 * size / (1 - 0.99 ** (step + 1))
        grads = {name: np.clip(grads[name], -bound, bound) for name in names}
        size = 0.99 * size + 0.01 * np.sqrt(1e-8 + np.mean([np.mean(grads[name] ** 2) for name in names]))
        average = lambda olds, new: [b * old + (1 - b) * new for b, old in zip(DECAYS, olds, strict=True)]
        ms = {name: average(ms[name], grads[name]) for name in names}
        vs = {name: average(vs[name], grads[name] ** 2) for name in names}
        loss = 0.0 if losses is None else _loss_feature(losses[: step + 1])
        tensor = lambda name, g=grads, m=ms, v=vs: (g[name], params[name], m[name], v[name])
        x = np.stack([_tensor_features(*tensor(name), loss, from_mlp[name], from_lstm) for name in names])
        gates = reference.linear(theta["lstm"]["lstm/linear"], np.concatenate([x, hidden], axis=1))
        i, g, f, o = np.split(gates, 4, axis=1)
        cell = reference.sigmoid(f + 1) * cell + reference.sigmoid(i) * np.tanh(g)
        hidden = reference.sigmoid(o) * np.tanh(cell)
        to_mlp, to_lstm = (reference.linear(theta["lstm"][name], hidden) for name in ("output_0", "output_1"))
        from_lstm, updates = np.mean(to_lstm, axis=0), {}
        for row, name in zip(to_mlp, names, strict=True):
            output = _network(theta["network"], *tensor(name), step, len(names), row)
            from_mlp[name] = np.mean(output[:, 2:], axis=0)
            updates[name] = np.reshape(-1e-3 * output[:, 0] * np.exp(1e-3 * output[:, 1]), SHAPES[name])
            params[name] = params[name] + updates[name]
        made.append(updates)
    return made


def _float32(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


def _run(tx, params=PARAMS, grads=GRADS, losses=None):
    update, params, made = jax.jit(tx.update), _float32(params), []
    state = tx.init(params)
    for step, grad in enumerate(grads):
        options = {} if losses is None else {"value": jnp.float32(losses[step])}
        updates, state = update(_float32(grad), state, params, **options)
        params = jax.tree.map(jnp.add, params, updates)
        made.append(updates)
    return made, state


@pytest.mark.parametrize(("hidden_sizes", "losses"), [((4, 3), LOSSES), ((20,), LOSSES), ((4, 3), None)])
def test_four_steps_equal_the_published_definition(hidden_sizes, losses):
    """With and without the loss; layers wider than 16 take another path than narrow ones."""
    optimizer = _optimizer(hidden_sizes)
    theta = _theta(optimizer)
    made, _ = _run(optimizer.transform(_float32(theta)), losses=losses)
    for have, want in zip(made, _published_updates(theta, losses), strict=True):
        for name in SHAPES:
            np.testing.assert_allclose(have[name], want[name], rtol=0, atol=2e-5 * np.max(np.abs(want[name])))


def test_the_loss_matters_from_the_second_step_on():
    optimizer = _optimizer()
    tx = optimizer.transform(_float32(_theta(optimizer)))
    (first, second, *_), _ = _run(tx, losses=LOSSES)
    (first_without, second_without, *_), _ = _run(tx)
    assert all(np.all(first[name] == first_without[name]) for name in SHAPES)
    assert all(np.all(second[name] != second_without[name]) for name in SHAPES)


@pytest.mark.parametrize("loss", [0.0, 2.5, -1e3, 1e38, np.inf])
def test_a_constant_loss_is_as_none(loss):
    """Its distance from its average is 0, and not a quotient of rounding errors."""
    optimizer = _optimizer((2,))
    tx = optimizer.transform(_float32(_theta(optimizer)))
    params, grads = np.ones(3), [np.array([1.0, 2.0, -1.0])] * 4
    made, state = _run(tx, params, grads, losses=[loss] * 4)
    np.testing.assert_array_equal(made, _run(tx, params, grads)[0])
    assert np.isfinite(state.shared.loss.mean) and state.shared.loss.variance == 0


def test_multipliers_scale_direction_and_log_step():
    """A network whose outputs are its last biases: d = 2, a = 3."""
    optimizer = _optimizer(step_multiplier=0.1, magnitude_multiplier=0.5)
    theta = jax.tree.map(np.zeros_like, _theta(optimizer))
    theta["network"]["linear_2"]["b"] = np.array([2.0, 3.0, *[0.0] * 16])
    (updates,), _ = _run(optimizer.transform(_float32(theta)), np.full((2, 3), 4.0), [np.ones((2, 3))])
    np.testing.assert_allclose(updates, np.full((2, 3), -0.1 * 2 * np.exp(0.5 * 3)), rtol=1e-6)


def test_tensors_learn_of_each_other_after_one_step():
    optimizer = _optimizer()
    tx = optimizer.transform(_float32(_theta(optimizer)))
    (first, second), _ = _run(tx, grads=GRADS[:2])
    changed = [{**GRADS[0], "w": 5.0 * GRADS[0]["w"]}, GRADS[1]]
    (first_changed, second_changed), _ = _run(tx, grads=changed)
    np.testing.assert_array_equal(first["bias"], first_changed["bias"])
    assert np.all(second["bias"] != second_changed["bias"])


def test_a_nan_stays_in_its_tensor_at_all_later_steps():
    optimizer = _optimizer()
    tx = optimizer.transform(_float32(_theta(optimizer)))
    made, state = _run(tx, grads=[{**GRADS[0], "w": np.full((3, 5), np.nan)}, *GRADS[1:]], losses=LOSSES)
    assert all(np.all(np.isnan(updates["w"])) for updates in made)
    assert all(np.all(np.isfinite(updates[name])) for updates in made for name in SHAPES if name != "w")
    shared = state.shared._replace(from_mlp=state.shared.from_mlp[:-1])  # without the row of w
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(shared))


def test_every_part_of_theta_matters():
    optimizer = _optimizer((2,))
    params, grads = (_float32({name: tree[name] for name in ("bias", "w")}) for tree in (PARAMS, GRADS[1]))

    def total(theta):
        tx = optimizer.transform(theta)
        step = lambda state, loss: tx.update(grads, state, params, value=loss)[::-1]
        _, updates = jax.lax.scan(step, tx.init(grads), jnp.asarray(LOSSES, jnp.float32))
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(updates))

    for leaf in jax.tree.leaves(jax.jit(jax.grad(total))(_float32(_theta(optimizer)))):
        assert np.all(np.isfinite(leaf)) and np.any(leaf != 0)


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e20])
def test_parameters_gradients_and_losses_of_any_scale_give_finite_updates(scale):
    optimizer = _optimizer()
    tx = optimizer.transform(_float32(_theta(optimizer)))
    scaled = lambda tree: jax.tree.map(lambda leaf: scale * leaf, tree)
    made, state = _run(tx, scaled(PARAMS), scaled(GRADS), losses=[scale * loss for loss in LOSSES])
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((made, state)))
    assert all(np.all(leaf != 0) for leaf in jax.tree.leaves(made))


def test_dimensions_beyond_the_fourth_multiply_the_fourth():
    optimizer = _optimizer((2,))
    tx = optimizer.transform(_float32(_theta(optimizer)))
    update = jax.jit(tx.update)
    five, four = np.ones((2, 1, 3, 2, 5)), np.ones((2, 1, 3, 10))
    (updates, _), (same, _) = (update(_float32(x), tx.init(_float32(x)), _float32(x)) for x in (five, four))
    np.testing.assert_allclose(np.ravel(updates), np.ravel(same), rtol=1e-5)


def test_defaults_are_the_paper_s():
    optimizer = learned_optim.hierarchical_mlp()
    assert optimizer.spec == {
        "kind": "hierarchical_mlp",
        "feature_version": 1,
        "hidden_sizes": [32, 32],
        "lstm_size": 64,
        "step_multiplier": 1e-3,
        "magnitude_multiplier": 1e-3,
    }
    theta = jax.eval_shape(optimizer.init, jax.random.key(0))
    assert [layer["w"].shape for layer in theta["network"].values()] == [(54, 32), (32, 32), (32, 18)]
    shapes = {name: layer["w"].shape for name, layer in theta["lstm"].items()}
    assert shapes == {"lstm/linear": (50 + 64, 256), "output_0": (64, 17), "output_1": (64, 18)}


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"hidden_sizes": ()}, ValueError, "hidden_sizes must be a non-empty sequence"),
        ({"lstm_size": 0}, ValueError, "lstm_size must be at least 1, got 0"),
        ({"lstm_size": 2.5}, TypeError, "lstm_size must be a whole number, at least 1, got 2.5"),
    ],
)
def test_bad_arguments_are_an_error(options, error, match):
    with pytest.raises(error, match=match):
        learned_optim.hierarchical_mlp(**options)
