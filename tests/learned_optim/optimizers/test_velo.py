"""VeLO against its definition (Metz et al. 2022), written again in NumPy."""

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
LOSSES = (3.0, 2.0, 9.0, 1.5, -0.5)
HORIZON = 40


def _optimizer(**options):
    return learned_optim.velo((4, 3), 5, 3, **options)


def _theta(optimizer, seed=0):
    return reference.random_theta(jax.eval_shape(optimizer.init, jax.random.key(0)), seed)


def _tree(seed, scale=1.0):
    random = np.random.RandomState(seed)
    return {name: scale * random.standard_normal(shape) for name, shape in SHAPES.items()}


GRADS = [_tree(seed + 2, scale) for seed, scale in enumerate((1.0, 1e-2, 1e4, 1e-4, 1.0))]
PARAMS = _tree(1)


def _statistics(moments, p):
    """Variances of momenta, mean and variance of v in units of the parameter's size, and the rank."""
    ms, v, _, _ = moments or ([np.zeros(p.shape)] * 3, np.zeros(p.shape), None, None)
    unit = 1 / np.sqrt(max(1e-9, np.mean(p**2)))
    values = [np.var(m * unit) for m in ms] + [np.mean(v * unit), np.var(v * unit)]
    one_hot = [float(sum(size > 1 for size in p.shape) == rank) for rank in range(5)]
    return np.array([0.5 * np.clip(np.log(1e-8 + 10 * value), -5, 5) for value in values] + one_hot)


def _published_updates(theta, losses, horizon):
    """The updates of all tensors at their successive gradients, in float64."""
    params, moments = dict(PARAMS), dict.fromkeys(SHAPES)
    hidden, cell = (np.tile(theta["first_state"][name], (len(SHAPES), 1)) for name in ("hidden", "cell"))
    made = []
    for step, grads in enumerate(GRADS):
        progress = reference.progress_features(step, horizon) if horizon else theta["unknown"]["progress"]
        known = horizon and losses is not None
        loss = reference.loss_features(losses[: step + 1], horizon) if known else theta["unknown"]["loss"]
        inputs = [np.concatenate([progress, loss, _statistics(moments[name], params[name])]) for name in sorted(SHAPES)]
        (controls, multipliers), hidden, cell = reference.mixed_lstm(theta["lstm"], np.stack(inputs), hidden, cell)
        updates = {}
        for control, multiplier, name in zip(controls, multipliers[:, 0], sorted(SHAPES), strict=True):
            mean = lambda bank, c=control: np.mean([w * ck for w, ck in zip(bank, c, strict=True)], axis=0)
            weights = jax.tree.map(lambda bank, mean=mean: 100 * (3 / 256) * mean(bank), theta["bank"])
            change, moments[name] = reference.relative_step(weights, moments[name], grads[name], params[name])
            updates[name] = -1e-3 * multiplier * change
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


@pytest.mark.parametrize("horizon", [HORIZON, 5, None])
@pytest.mark.parametrize("losses", [LOSSES, None])
def test_five_steps_equal_the_published_definition(horizon, losses):
    """With and without a horizon, and with and without the loss. Of theta's seeds one where no s is close to 0."""
    optimizer = _optimizer()
    theta = _theta(optimizer, seed=6)
    made, _ = _run(optimizer.transform(_float32(theta), num_steps=horizon), losses=losses)
    expected = _published_updates(theta, losses, horizon)
    for have, want in zip(made, expected, strict=True):
        for name in SHAPES:
            np.testing.assert_allclose(have[name], want[name], rtol=0, atol=2e-5 * np.max(np.abs(want[name])))


def test_multipliers_scale_direction_and_log_step():
    """The LSTM's outputs are c = 128 / 25, s = 3, the network's biases .5, 1.5, the tensor's root mean square is 4."""
    optimizer = learned_optim.velo((2,), 3, 1, step_multiplier=0.1, magnitude_multiplier=0.5)
    theta = jax.tree.map(np.zeros_like, _theta(optimizer))
    theta["bank"]["linear_1"]["b"] = np.array([[0.5, 1.5]])
    theta["lstm"]["output_0"]["b"], theta["lstm"]["output_1"]["b"] = np.array([5.12]), np.array([3.0])
    (updates,), _ = _run(optimizer.transform(_float32(theta)), np.full((2, 3), 4.0), [np.ones((2, 3))])
    np.testing.assert_allclose(updates, np.full((2, 3), -3 * 0.1 * 1.0 * np.exp(0.5 * 3.0) * 4), rtol=1e-6)


def test_tensors_learn_of_each_other_after_one_step():
    """Statistics are of the moments before a gradient, so what one tensor's does to the others shows at the next."""
    optimizer = _optimizer()
    tx = optimizer.transform(_float32(_theta(optimizer)), num_steps=HORIZON)
    changed = [{**GRADS[0], "w": 100.0 * GRADS[0]["w"]}, GRADS[1]]
    (first, second), _ = _run(tx, grads=GRADS[:2], losses=LOSSES)
    (first_changed, second_changed), _ = _run(tx, grads=changed, losses=LOSSES)
    np.testing.assert_array_equal(first["bias"], first_changed["bias"])
    assert np.all(second["bias"] != second_changed["bias"])


def test_a_nan_stays_in_its_tensor_at_all_later_steps():
    optimizer = _optimizer()
    tx = optimizer.transform(_float32(_theta(optimizer)), num_steps=HORIZON)
    made, state = _run(tx, grads=[{**GRADS[0], "w": np.full((3, 5), np.nan)}, *GRADS[1:]], losses=LOSSES)
    assert all(np.all(np.isnan(updates["w"])) for updates in made)
    assert all(np.all(np.isfinite(updates[name])) for updates in made for name in SHAPES if name != "w")
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state.shared))


def test_every_part_of_theta_matters():
    optimizer = _optimizer()
    small = lambda tree: _float32({name: tree[name] for name in ("bias", "w")})
    params, grads = small(PARAMS), small(GRADS[1])

    def total(theta, num_steps):
        tx = optimizer.transform(theta, num_steps=num_steps)
        step = lambda state, loss: tx.update(grads, state, params, value=loss)[::-1]
        _, updates = jax.lax.scan(step, tx.init(grads), jnp.asarray(LOSSES, jnp.float32))
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(updates))

    derivative = jax.jit(jax.grad(total))
    with_horizon, without = (derivative(_float32(_theta(optimizer)), jnp.float32(steps)) for steps in (HORIZON, 0))
    assert all(np.all(leaf != 0) for leaf in jax.tree.leaves(without.pop("unknown")))
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(with_horizon.pop("unknown")))
    for leaf in jax.tree.leaves((without, with_horizon)):
        assert np.all(np.isfinite(leaf)) and np.any(leaf != 0)


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e20])
def test_parameters_and_losses_of_any_scale_give_finite_updates(scale):
    optimizer = _optimizer()
    tx = optimizer.transform(_float32(_theta(optimizer)), num_steps=HORIZON)
    params = jax.tree.map(lambda leaf: scale * leaf, PARAMS)
    made, state = _run(tx, params, losses=[scale * loss for loss in LOSSES])
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((made, state)))
    assert all(np.all(leaf != 0) for leaf in jax.tree.leaves(made))


def test_ranks_above_four_count_as_four():
    optimizer = _optimizer()
    tx = optimizer.transform(_float32(_theta(optimizer)))
    update = jax.jit(tx.update)
    five, four = np.ones((2, 2, 2, 2, 2)), np.ones((2, 2, 2, 4))
    (updates, _), (same, _) = (update(_float32(x), tx.init(_float32(x)), _float32(x)) for x in (five, four))
    np.testing.assert_allclose(np.ravel(updates), np.ravel(same), rtol=1e-5)


def test_defaults_are_the_paper_s():
    optimizer = learned_optim.velo()
    assert optimizer.spec == {
        "kind": "velo",
        "feature_version": 1,
        "hidden_sizes": [4, 4],
        "lstm_size": 512,
        "num_networks": 256,
        "step_multiplier": 1e-3,
        "magnitude_multiplier": 1e-3,
    }
    theta = jax.eval_shape(optimizer.init, jax.random.key(0))
    assert [layer["w"].shape for layer in theta["bank"].values()] == [(256, 30, 4), (256, 4, 4), (256, 4, 2)]
    shapes = {name: layer["w"].shape for name, layer in theta["lstm"].items()}
    assert shapes == {
        "mix_first": (28, 512),
        "mix_second": (512, 512),
        "mix_own": (28, 512),
        "lstm/linear": (1024, 2048),
        "output_0": (512, 256),
        "output_1": (512, 1),
    }


def test_networks_of_the_bank_differ_at_first():
    bank = jax.jit(_optimizer().init)(jax.random.key(0))["bank"]["linear"]["w"]
    assert len(np.unique(bank)) == bank.size


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"hidden_sizes": ()}, ValueError, "hidden_sizes must be a non-empty sequence"),
        ({"lstm_size": 0}, ValueError, "lstm_size must be at least 1, got 0"),
        ({"num_networks": 0}, ValueError, "num_networks must be at least 1, got 0"),
        ({"num_networks": 2.5}, TypeError, "num_networks must be a whole number, at least 1, got 2.5"),
    ],
)
def test_bad_arguments_are_an_error(options, error, match):
    with pytest.raises(error, match=match):
        learned_optim.velo(**options)
