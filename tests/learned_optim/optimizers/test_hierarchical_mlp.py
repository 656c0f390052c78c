"""The hierarchical MLP against its definition (Metz et al. 2020), written again in NumPy."""

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
reference = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "hierarchical_parts.py")))

SHAPES = {"bias": (4,), "kernel": (3, 2, 1, 4), "scale": (), "w": (3, 5)}
LOSSES = (3.0, 2.0, 9.0, -0.5)


def _optimizer(hidden_sizes=(4, 3), **options):
    return learned_optim.hierarchical_mlp(hidden_sizes, 5, **options)


def _theta(optimizer, seed=0):
    return reference.velo_parts.random_theta(jax.eval_shape(optimizer.init, jax.random.key(0)), seed)


def _tree(seed, scale=1.0):
    random = np.random.RandomState(seed)
    return {name: scale * (random.standard_normal(shape) + 0.3) for name, shape in SHAPES.items()}


# The third gradient is larger than the bound on it; the first tensor of the first one is larger than 10.
GRADS = [_tree(seed + 2, scale) for seed, scale in enumerate((1.0, 1e-2, 1e4, 1e-1))]
GRADS[0]["bias"] = 50.0 * GRADS[0]["bias"]
PARAMS = [_tree(seed) for seed in (11, 12, 13, 14)]
for number, grads in enumerate(GRADS):
    grads["bias"][1], grads["w"][2] = 0.0, 0.0  # these coordinates never have a gradient
    grads["scale"] *= number > 0  # nor has this one at the first step


def _float32(tree):
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf, np.float32)), tree)


@functools.partial(jax.jit, static_argnums=0)
def _advance(options, theta, grads, state, params, loss):
    return _optimizer(**dict(options)).transform(theta).update(grads, state, params, value=loss)


def _run(theta, params=PARAMS, grads=GRADS, losses=None, **options):
    """The updates at each step and the last state. Parameters are given at each step; all calls share one program."""
    theta, made = _float32(theta), []
    state = _optimizer(**options).transform(theta).init(_float32(params[0]))
    for step, (grad, param) in enumerate(zip(grads, params, strict=False)):
        loss = None if losses is None else jnp.float32(losses[step])
        updates, state = _advance(tuple(options.items()), theta, _float32(grad), state, _float32(param), loss)
        made.append(updates)
    return made, state


@pytest.mark.parametrize(("hidden_sizes", "losses"), [((4, 3), LOSSES), ((20,), LOSSES), ((4, 3), None)])
def test_four_steps_equal_the_published_definition(hidden_sizes, losses):
    """With and without the loss; layers wider than 16 take another path than narrow ones."""
    theta = _theta(_optimizer(hidden_sizes))
    made, _ = _run(theta, losses=losses, hidden_sizes=hidden_sizes)
    for have, want in zip(made, reference.updates(theta, PARAMS, GRADS, losses), strict=True):
        for name in SHAPES:
            np.testing.assert_allclose(have[name], want[name], rtol=0, atol=2e-5 * np.max(np.abs(want[name])))


def test_the_loss_matters_from_the_first_step_on():
    theta = _theta(_optimizer())
    (made, *_), _ = _run(theta, losses=LOSSES)
    (without, *_), _ = _run(theta)
    assert all(np.all(made[name] != without[name]) for name in SHAPES)


def test_multipliers_scale_direction_and_log_step():
    """A network whose outputs are its last biases: d = 2, a = 3."""
    options = {"step_multiplier": 0.1, "magnitude_multiplier": 0.5}
    theta = jax.tree.map(np.zeros_like, _theta(_optimizer()))
    theta["network"]["linear_2"]["b"] = np.array([2.0, 3.0, *[0.0] * 16])
    (updates,), _ = _run(theta, [np.full((2, 3), 4.0)], [np.ones((2, 3))], **options)
    np.testing.assert_allclose(updates, np.full((2, 3), -0.1 * 2 * np.exp(0.5 * 3)), rtol=1e-6)


def test_tensors_learn_of_each_other_after_one_step():
    theta = _theta(_optimizer())
    (first, second), _ = _run(theta, grads=GRADS[:2])
    changed = [{**GRADS[0], "w": 5.0 * GRADS[0]["w"]}, GRADS[1]]
    (first_changed, second_changed), _ = _run(theta, grads=changed)
    np.testing.assert_array_equal(first["bias"], first_changed["bias"])
    assert np.any(second["bias"] != second_changed["bias"])


def test_a_nan_stays_in_its_tensor_at_all_later_steps():
    made, state = _run(
        _theta(_optimizer()), grads=[{**GRADS[0], "w": np.full((3, 5), np.nan)}, *GRADS[1:]], losses=LOSSES
    )
    assert all(np.all(np.isnan(updates["w"])) for updates in made)
    assert all(np.all(np.isfinite(updates[name])) for updates in made for name in SHAPES if name != "w")
    shared = state.shared._replace(from_mlp=state.shared.from_mlp[:-1])  # without the row of w
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(shared))


def test_every_part_of_theta_matters():
    optimizer = _optimizer((2,))
    params, grads = (_float32({name: tree[name] for name in ("bias", "w")}) for tree in PARAMS[:2])

    def total(theta):
        tx = optimizer.transform(theta)
        step = lambda state, loss: tx.update(grads, state, params, value=loss)[::-1]
        _, updates = jax.lax.scan(step, tx.init(grads), jnp.asarray(LOSSES, jnp.float32))
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(updates))

    for leaf in jax.tree.leaves(jax.jit(jax.grad(total))(_float32(_theta(optimizer)))):
        assert np.all(np.isfinite(leaf)) and np.any(leaf != 0)


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e20])
def test_parameters_gradients_and_losses_of_any_scale_give_finite_updates(scale):
    scaled = lambda tree: jax.tree.map(lambda leaf: scale * leaf, tree)
    losses = [scale * loss for loss in LOSSES]
    made, state = _run(_theta(_optimizer()), scaled(PARAMS), scaled(GRADS), losses=losses)
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
        "feature_version": 2,
        "hidden_sizes": [32, 32],
        "lstm_size": 64,
        "step_multiplier": 1e-3,
        "magnitude_multiplier": 1e-3,
    }
    theta = jax.eval_shape(optimizer.init, jax.random.key(0))
    assert [layer["w"].shape for layer in theta["network"].values()] == [(54, 32), (32, 32), (32, 18)]
    shapes = {name: layer["w"].shape for name, layer in theta["lstm"].items()}
    assert shapes == {"lstm/linear": (52 + 64, 256), "output_0": (64, 17), "output_1": (64, 18)}


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
