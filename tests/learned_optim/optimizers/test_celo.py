"""Celo against its definition (Moudgil et al. 2025), written again in NumPy, and its two stages of meta-training."""

import pathlib
import runpy
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_optim

_REFERENCE = pathlib.Path(__file__).parents[2] / "reference"
reference = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "velo_parts.py")))

SHAPES = {"bias": (4,), "kernel": (3, 2, 5, 4), "scale": (), "w": (3, 5)}
LOSSES = (3.0, 2.0, 9.0, 1.5, -0.5)
HORIZON = 40


def _optimizer(**options):
    return learned_optim.celo((4, 3), 5, **options)


def _theta(optimizer, seed=0):
    return reference.random_theta(jax.eval_shape(optimizer.init, jax.random.key(0)), seed)


def _tree(seed, scale=1.0):
    random = np.random.RandomState(seed)
    return {name: scale * random.standard_normal(shape) for name, shape in SHAPES.items()}


GRADS = [_tree(seed + 2, scale) for seed, scale in enumerate((1.0, 1e-2, 1e4, 1e-4, 1.0))]
PARAMS = _tree(1)


def _multipliers(theta, losses, horizon):
    """0.1 exp(o) at each step."""
    hidden, cell = (theta["first_state"][name][None] for name in ("hidden", "cell"))
    multipliers = []
    for step in range(len(GRADS)):
        progress = reference.progress_features(step, horizon) if horizon else theta["unknown"]["progress"]
        known = horizon and losses is not None
        loss = reference.loss_features(losses[: step + 1], horizon) if known else theta["unknown"]["loss"]
        inputs = np.concatenate([progress, loss])[None]
        (output,), hidden, cell = reference.mixed_lstm(theta["lstm"], inputs, hidden, cell)
        multipliers.append(0.1 * np.exp(output[0, 0]))
    return multipliers


def _published_updates(theta, multipliers, grads, param):
    """The updates of one tensor at its successive gradients, in float64."""
    moments, updates = None, []
    for multiplier, g in zip(multipliers, grads, strict=True):
        step, moments = reference.relative_step(theta["rule"], moments, g, param)
        updates.append(-1e-3 * multiplier * step)
        param = param + updates[-1]
    return updates


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


def _assert_close(made, expected_of):
    for name in SHAPES:
        expected = expected_of([grad[name] for grad in GRADS], PARAMS[name])
        for have, want in zip([updates[name] for updates in made], expected, strict=True):
            np.testing.assert_allclose(have, want, rtol=0, atol=2e-5 * np.max(np.abs(want)))


@pytest.mark.parametrize("horizon", [HORIZON, 5, None])
@pytest.mark.parametrize("losses", [LOSSES, None])
def test_five_steps_equal_the_published_definition(horizon, losses):
    """With and without a horizon, and with and without the loss."""
    optimizer = _optimizer()
    theta = _theta(optimizer)
    made, _ = _run(optimizer.transform(_float32(theta), num_steps=horizon), losses=losses)
    multipliers = _multipliers(theta["scheduler"], losses, horizon)
    assert np.ptp(multipliers) > 0.01 * np.max(multipliers)
    _assert_close(made, lambda grads, param: _published_updates(theta, multipliers, grads, param))


def test_stage_1_is_the_rule_alone():
    optimizer = _optimizer(scheduler=False)
    theta = _theta(optimizer)
    assert list(theta) == ["rule"]
    made, state = _run(optimizer.transform(_float32(theta), num_steps=HORIZON), losses=LOSSES)
    _assert_close(made, lambda grads, param: _published_updates(theta, [1.0] * len(grads), grads, param))
    assert state.shared == ()


def test_theta_of_stage_1_becomes_the_rule_of_stage_2():
    """The updates of the two stages differ by one factor for all tensors, at each step."""
    first, second = _optimizer(scheduler=False), _optimizer()
    stage1_theta = _theta(first, seed=1)
    theta = {**_theta(second, seed=2), "rule": stage1_theta["rule"]}
    alone, _ = _run(first.transform(_float32(stage1_theta)), grads=GRADS[:1])
    scheduled, _ = _run(second.transform(_float32(theta), num_steps=HORIZON), grads=GRADS[:1], losses=LOSSES)
    (multiplier, *_) = _multipliers(theta["scheduler"], LOSSES, HORIZON)
    for name in SHAPES:
        np.testing.assert_allclose(scheduled[0][name], multiplier * alone[0][name], rtol=1e-5)


@pytest.mark.optax_promotion
def test_a_frozen_rule_stays_bit_equal_in_stage_2():
    """Under an outer optimizer with weight decay too, and the scheduler moves."""
    theta = _float32(_theta(_optimizer()))
    gradient = jax.tree.map(jnp.ones_like, theta)
    labels = {"rule": "freeze", "scheduler": "train"}
    outer = optax.multi_transform({"train": optax.adamw(0.1), "freeze": optax.set_to_zero()}, labels)
    state, new = outer.init(theta), theta
    for _ in range(2):
        updates, state = jax.jit(outer.update)(gradient, state, new)
        new = optax.apply_updates(new, updates)
    jax.tree.map(np.testing.assert_array_equal, new["rule"], theta["rule"])
    moved = jax.tree.map(lambda a, b: bool(np.all(a != b)), new["scheduler"], theta["scheduler"])
    assert all(jax.tree.leaves(moved))


def test_multipliers_scale_direction_and_log_step():
    """A network whose outputs are its last biases: d = 2, a = 3; a tensor of root mean square 4."""
    options = {"scheduler": False, "step_multiplier": 0.1, "magnitude_multiplier": 0.5}
    theta = jax.tree.map(np.zeros_like, _theta(_optimizer(**options)))
    theta["rule"]["linear_2"]["b"] = np.array([2.0, 3.0])
    (updates,), _ = _run(_optimizer(**options).transform(_float32(theta)), np.full((2, 3), 4.0), [np.ones((2, 3))])
    np.testing.assert_allclose(updates, np.full((2, 3), -0.1 * 2 * np.exp(0.5 * 3) * 4), rtol=1e-6)


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
    unknown = without["scheduler"].pop("unknown"), with_horizon["scheduler"].pop("unknown")
    assert all(np.all(leaf != 0) for leaf in jax.tree.leaves(unknown[0]))
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(unknown[1]))
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


def test_defaults_are_the_paper_s():
    optimizer = learned_optim.celo()
    assert optimizer.spec == {
        "kind": "celo",
        "feature_version": 1,
        "hidden_sizes": [4, 4],
        "lstm_size": 64,
        "scheduler": True,
        "step_multiplier": 1e-3,
        "magnitude_multiplier": 1e-3,
    }
    theta = jax.eval_shape(optimizer.init, jax.random.key(0))
    assert [layer["w"].shape for layer in theta["rule"].values()] == [(30, 4), (4, 4), (4, 2)]
    shapes = {name: layer["w"].shape for name, layer in theta["scheduler"]["lstm"].items()}
    assert shapes == {
        "mix_first": (18, 64),
        "mix_second": (64, 64),
        "mix_own": (18, 64),
        "lstm/linear": (128, 256),
        "output_0": (64, 1),
    }


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"hidden_sizes": ()}, ValueError, "hidden_sizes must be a non-empty sequence"),
        ({"lstm_size": 0}, ValueError, "lstm_size must be at least 1, got 0"),
        ({"lstm_size": 2.5}, TypeError, "lstm_size must be a whole number, at least 1, got 2.5"),
        ({"scheduler": "no"}, TypeError, "scheduler must be True or False, got 'no'"),
    ],
)
def test_bad_arguments_are_an_error(options, error, match):
    with pytest.raises(error, match=match):
        learned_optim.celo(**options)
