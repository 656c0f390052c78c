"""Celo against its definition (Moudgil et al. 2025), written again in NumPy, and its two stages of meta-training."""

import functools
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
for number, grads in enumerate(GRADS):
    grads["bias"][1], grads["w"][2] = 0.0, 0.0  # these coordinates never have a gradient
    grads["scale"] *= number > 0  # nor has this one at the first step
PARAMS = [_tree(seed) for seed in (11, 12, 13, 14, 15)]


def _float32(tree):
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf, np.float32)), tree)


@functools.partial(jax.jit, static_argnums=0)
def _advance(options, theta, horizon, grads, state, params, loss):
    tx = _optimizer(**dict(options)).transform(theta, num_steps=horizon)
    return tx.update(grads, state, params, value=loss)


def _run(theta, params=PARAMS, grads=GRADS, losses=None, horizon=None, **options):
    """The updates at each step and the last state. Parameters are given at each step; all calls share one program."""
    theta, horizon, made = _float32(theta), jnp.asarray(horizon or 0), []
    state = _optimizer(**options).transform(theta).init(_float32(params[0]))
    for step, (grad, param) in enumerate(zip(grads, params, strict=False)):
        loss = None if losses is None else jnp.float32(losses[step])
        arguments = _float32(grad), state, _float32(param), loss
        updates, state = _advance(tuple(options.items()), theta, horizon, *arguments)
        made.append(updates)
    return made, state


def _assert_equal(made, expected):
    for have, want in zip(made, expected, strict=True):
        for name in SHAPES:
            np.testing.assert_allclose(have[name], want[name], rtol=0, atol=2e-5 * np.max(np.abs(want[name])))


@pytest.mark.parametrize("horizon", [HORIZON, 5, None])
@pytest.mark.parametrize("losses", [LOSSES, None])
def test_five_steps_equal_the_published_definition(horizon, losses):
    """With and without a horizon, and with and without the loss."""
    theta = _theta(_optimizer())
    factors = reference.celo_factors(theta["scheduler"], losses, horizon, len(GRADS))
    assert np.ptp(factors) > 0.01 * np.max(factors)
    made, _ = _run(theta, losses=losses, horizon=horizon)
    _assert_equal(made, reference.celo(theta, PARAMS, GRADS, losses, horizon))


def test_stage_1_is_the_rule_alone():
    theta = _theta(_optimizer(scheduler=False))
    assert list(theta) == ["rule"]
    made, state = _run(theta, losses=LOSSES, horizon=HORIZON, scheduler=False)
    _assert_equal(made, reference.celo(theta, PARAMS, GRADS, LOSSES, HORIZON))
    assert state.shared == ()


def test_with_adam_the_scheduler_scales_adam_s_direction():
    theta = _theta(_optimizer(adam=True))
    assert list(theta) == ["scheduler"]
    made, state = _run(theta, losses=LOSSES, horizon=HORIZON, adam=True)
    _assert_equal(made, reference.celo(theta, PARAMS, GRADS, LOSSES, HORIZON))
    assert len(jax.tree.leaves(state.slots)) == 2 * len(SHAPES)


def test_feature_version_1_is_built_for_its_files_and_no_other_version():
    """What it computes is in the golden trajectories of the released files, `celo-rule-v1` and `celo-scheduled-v1`."""
    old = _optimizer(feature_version=1)
    assert old.spec["feature_version"] == 1
    assert learned_optim.optimizers.build(old.spec).spec == old.spec
    assert "mix_second" in _theta(old)["scheduler"]["lstm"]
    assert "mix_second" not in _theta(_optimizer())["scheduler"]["lstm"]
    with pytest.raises(ValueError, match="feature_version must be 1 or 2, got 3: install the version of learned_optim"):
        learned_optim.optimizers.build({**old.spec, "feature_version": 3})


def test_theta_of_stage_1_becomes_the_rule_of_stage_2():
    """The updates of the two stages differ by one factor for all tensors, at each step."""
    first, second = _optimizer(scheduler=False), _optimizer()
    stage1_theta = _theta(first, seed=1)
    theta = {**_theta(second, seed=2), "rule": stage1_theta["rule"]}
    alone, _ = _run(stage1_theta, grads=GRADS[:1], scheduler=False)
    scheduled, _ = _run(theta, grads=GRADS[:1], losses=LOSSES, horizon=HORIZON)
    (factor,) = reference.celo_factors(theta["scheduler"], LOSSES, HORIZON, num_steps=1)
    for name in SHAPES:
        np.testing.assert_allclose(scheduled[0][name], factor * alone[0][name], rtol=1e-5)


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
    (updates,), _ = _run(theta, [np.full((2, 3), 4.0)], [np.ones((2, 3))], **options)
    np.testing.assert_allclose(updates, np.full((2, 3), -0.1 * 2 * np.exp(0.5 * 3) * 4), rtol=1e-6)


def test_every_part_of_theta_matters():
    optimizer = _optimizer()
    small = lambda tree: _float32({name: tree[name] for name in ("bias", "w")})
    params, grads = small(PARAMS[0]), small(PARAMS[1])

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
    params = jax.tree.map(lambda leaf: scale * leaf, PARAMS)
    losses = [scale * loss for loss in LOSSES]
    made, state = _run(_theta(_optimizer()), params, losses=losses, horizon=HORIZON)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((made, state)))
    assert all(np.all(leaf != 0) for leaf in jax.tree.leaves(made))


def test_defaults_are_the_paper_s():
    optimizer = learned_optim.celo()
    assert optimizer.spec == {
        "kind": "celo",
        "feature_version": 2,
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
        "mix_max": (18, 64),
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
        ({"adam": True, "scheduler": False}, ValueError, "adam=True needs scheduler=True and feature_version=2"),
        ({"adam": True, "feature_version": 1}, ValueError, "adam=True needs scheduler=True and feature_version=2"),
        ({"adam": "no"}, TypeError, "adam must be True or False, got 'no'"),
        ({"scheduler": "no"}, TypeError, "scheduler must be True or False, got 'no'"),
    ],
)
def test_bad_arguments_are_an_error(options, error, match):
    with pytest.raises(error, match=match):
        learned_optim.celo(**options)
