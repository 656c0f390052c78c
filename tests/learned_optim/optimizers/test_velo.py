"""VeLO against its definition (Metz et al. 2022), written again in NumPy."""

import functools
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

# Of all ranks; the last has more dimensions above 1 than there are features of the rank.
SHAPES = {"bias": (4,), "kernel": (3, 2, 1, 4), "scale": (), "w": (3, 5), "x": (2, 2, 2, 2, 2)}
LOSSES = (3.0, 2.0, 9.0, 1.5, -0.5)
HORIZON = 40


def _optimizer(**options):
    """With three random networks, the default factor on their mean would give steps beyond float32."""
    return learned_optim.velo((4, 3), 5, 3, **{"bank_multiplier": 1.0, **options})


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
    """To 2e-5 of the largest update of a tensor at that step."""
    for have, want in zip(made, expected, strict=True):
        for name in SHAPES:
            np.testing.assert_allclose(have[name], want[name], rtol=0, atol=2e-5 * np.max(np.abs(want[name])))


@pytest.mark.parametrize("horizon", [HORIZON, 5, None])
@pytest.mark.parametrize("losses", [LOSSES, None])
def test_five_steps_equal_the_published_definition(horizon, losses):
    """With and without a horizon, and with and without the loss. Of theta's seeds one where no update is close to 0."""
    theta = _theta(_optimizer(), seed=35)
    made, _ = _run(theta, losses=losses, horizon=horizon)
    _assert_equal(made, reference.velo(theta, PARAMS, GRADS, losses, horizon, bank=1.0))


def test_the_older_variants_and_other_multipliers_equal_the_published_definition():
    numbers = {"step_multiplier": 0.1, "magnitude_multiplier": 0.05, "bank_multiplier": 3.0}
    theta = _theta(_optimizer(), seed=35)
    made, _ = _run(theta, losses=LOSSES, horizon=HORIZON, fixed_state=True, equal_loss_averages=True, **numbers)
    options = {"multipliers": (0.1, 0.05), "bank": 3.0, "fixed": True, "equal": True}
    _assert_equal(made, reference.velo(theta, PARAMS, GRADS, LOSSES, HORIZON, **options))


def test_tensors_learn_of_each_other_after_one_step():
    """Statistics are of the moments before a gradient, so what one tensor's does to the others shows at the next."""
    theta = _theta(_optimizer())
    changed = [{**GRADS[0], "w": 100.0 * GRADS[0]["w"]}, GRADS[1]]
    (first, second), _ = _run(theta, grads=GRADS[:2], losses=LOSSES, horizon=HORIZON)
    (first_changed, second_changed), _ = _run(theta, grads=changed, losses=LOSSES, horizon=HORIZON)
    np.testing.assert_array_equal(first["bias"], first_changed["bias"])
    assert np.all(second["bias"] != second_changed["bias"])


def test_a_nan_stays_in_its_tensor_at_all_later_steps():
    grads = [{**GRADS[0], "w": np.full((3, 5), np.nan)}, *GRADS[1:]]
    made, state = _run(_theta(_optimizer()), grads=grads, losses=LOSSES, horizon=HORIZON)
    assert all(np.all(np.isnan(updates["w"])) for updates in made)
    assert all(np.all(np.isfinite(updates[name])) for updates in made for name in SHAPES if name != "w")
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state.shared))


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
    assert all(np.all(leaf != 0) for leaf in jax.tree.leaves(without.pop("unknown")))
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(with_horizon.pop("unknown")))
    for leaf in jax.tree.leaves((without, with_horizon)):
        assert np.all(np.isfinite(leaf)) and np.any(leaf != 0)


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e20])
def test_parameters_and_losses_of_any_scale_give_finite_updates(scale):
    params = jax.tree.map(lambda leaf: scale * leaf, PARAMS)
    losses = [scale * loss for loss in LOSSES]
    made, state = _run(_theta(_optimizer()), params, losses=losses, horizon=HORIZON)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((made, state)))
    assert all(np.all(leaf != 0) for leaf in jax.tree.leaves(made))


@pytest.mark.optimized
def test_an_update_in_place_copies_no_slot():
    """Statistics read the old slots, and new ones take their place: without copies, which would be four more."""
    tx = learned_optim.velo((2,), 3, 1).transform(_float32(_theta(learned_optim.velo((2,), 3, 1))), num_steps=HORIZON)
    params = {"w": jax.ShapeDtypeStruct((256, 256), jnp.float32)}
    step = jax.jit(lambda state, params, grads: tx.update(grads, state, params, value=1.0), donate_argnums=0)
    compiled = step.lower(jax.eval_shape(tx.init, params), params, params).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * 4 * 256**2  # 4 copies


def test_defaults_are_the_paper_s():
    optimizer = learned_optim.velo()
    assert optimizer.spec == {
        "kind": "velo",
        "feature_version": 2,
        "hidden_sizes": [4, 4],
        "lstm_size": 512,
        "num_networks": 256,
        "step_multiplier": 1e-3,
        "magnitude_multiplier": 1e-3,
        "bank_multiplier": 100.0,
        "fixed_state": False,
        "equal_loss_averages": False,
    }
    theta = jax.eval_shape(optimizer.init, jax.random.key(0))
    assert [layer["w"].shape for layer in theta["bank"].values()] == [(256, 30, 4), (256, 4, 4), (256, 4, 2)]
    shapes = {name: layer["w"].shape for name, layer in theta["lstm"].items()}
    assert shapes == {
        "mix_max": (30, 512),
        "mix_own": (30, 512),
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
        ({"bank_multiplier": None}, TypeError, "bank_multiplier must be a number, got None"),
        ({"fixed_state": 1}, TypeError, "fixed_state must be True or False, got 1"),
        ({"equal_loss_averages": None}, TypeError, "equal_loss_averages must be True or False, got None"),
    ],
)
def test_bad_arguments_are_an_error(options, error, match):
    with pytest.raises(error, match=match):
        learned_optim.velo(**options)
