"""The contract that every architecture faces, at small sizes. A new one needs a golden trajectory."""

import inspect
import json
import pathlib
import re
import runpy
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest

import learned_optim
from learned_optim import optimizers

# Small values of constructor arguments, by the names that all architectures give them.
_SMALL = {"hidden_size": 3, "hidden_sizes": (4, 3), "lstm_size": 4, "num_networks": 5}


def _small(constructor):
    known = inspect.signature(constructor).parameters
    return constructor(**{name: value for name, value in _SMALL.items() if name in known})


OPTIMIZERS = {kind: _small(constructor) for kind, constructor in sorted(optimizers.KINDS.items())}

_GOLDENS = pathlib.Path(__file__).parents[2] / "goldens"
goldens = types.SimpleNamespace(**runpy.run_path(str(_GOLDENS / "regenerate.py")))


@pytest.fixture(scope="module", params=OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def optimizer(request):
    return request.param


@pytest.fixture(scope="module")
def theta(optimizer):
    return goldens.fixed_theta(optimizer)


@pytest.fixture(scope="module")
def tx(optimizer, theta):
    """One object for all tests, so that those with the same shapes share one compiled update."""
    return optimizer.transform(theta)


def _normal(seed, *shape):
    return jnp.asarray(np.random.RandomState(seed).standard_normal(shape), jnp.float32)


def _tree(seed):
    return {"b": _normal(seed, 3), "w": _normal(seed + 100, 2, 3)}


PARAMS = _tree(0)
GRADS = [_tree(1), _tree(2)]


def _run(tx, params, grads, **extra_args):
    """The updates of each gradient in turn, and the last state; params stay where they are."""
    update, state, made = jax.jit(tx.update), tx.init(params), []
    for grad in grads:
        updates, state = update(grad, state, params, **extra_args)
        made.append(updates)
    return made, state


# One tensor compiles in half the time of two: for what is the same for all tensors.
W = {"w": PARAMS["w"]}
W_GRADS = [{"w": grads["w"]} for grads in GRADS]


def _run_w_alone(tx):
    return _run(tx, W, W_GRADS)[0]


def _equal(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)


def _close(actual, expected, rtol=1e-5):
    """Leaves agree to rtol of their largest entry: what the order of float32 sums may change."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for have, want in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(have, want, rtol=0, atol=rtol * float(np.max(np.abs(want), initial=0.0)))


def _per_parameter(slots):
    """The trees among the slots that have the structure of the parameters; the others are vectors."""
    is_tree = lambda node: isinstance(node, dict)
    return [tree for tree in jax.tree.leaves(slots, is_leaf=is_tree) if is_tree(tree)]


def _dtypes(tree):
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree)}


@pytest.mark.optimized
def test_golden_trajectory(request, optimizer, theta):
    golden, name = goldens.read(_GOLDENS / "optimizers.json"), request.node.callspec.id
    assert name in golden, f"no golden yet: run `{goldens.COMMAND}`"
    # Random weights make some paths unstable: other rounding can move them by 2e-4.
    actual = goldens.trajectory(optimizer, theta, goldens.START)
    goldens.assert_matches(actual, golden[name], name, tolerance=1e-3)


def test_init_gives_float32_that_depend_on_the_key_alone(optimizer):
    init = jax.jit(optimizer.init)
    first, again, other = (init(jax.random.key(seed)) for seed in (0, 0, 1))
    assert _dtypes(first) == {"float32"}
    _equal(first, again)
    # Networks are drawn at random. Architectures that learn nothing but hyperparameters start from given values.
    if any(leaf.ndim > 1 for leaf in jax.tree.leaves(first)):
        assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True))


def test_spec_is_json_and_builds_the_same_optimizer_after_save_and_load_bit_for_bit(optimizer, theta, tx, tmp_path):
    spec = json.loads(json.dumps(optimizer.spec))
    assert optimizers.build(spec).spec == optimizer.spec == spec
    learned_optim.save(tmp_path / "a.safetensors", optimizer, theta)
    loaded, loaded_theta = learned_optim.load(tmp_path / "a.safetensors")
    _equal(loaded_theta, theta)
    assert loaded.spec == spec
    _equal(_run(loaded.transform(loaded_theta), PARAMS, GRADS), _run(tx, PARAMS, GRADS))


def test_update_traces_once(tx):
    traces = []

    @jax.jit
    def step(params, state):
        traces.append(1)
        updates, state = tx.update(jax.tree.map(jnp.sin, params), state, params)
        return optax.apply_updates(params, updates), state

    carry = (PARAMS, tx.init(PARAMS))
    for _ in range(4):  # shapes, dtypes and weak types decide on another trace
        carry = jax.eval_shape(step, *carry)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("dtype", "grad_dtype"), [("float32", "bfloat16"), ("bfloat16", "bfloat16"), ("bfloat16", "float32")]
)
def test_updates_have_the_dtype_of_their_parameter_and_state_is_float32(tx, dtype, grad_dtype):
    params, grads = optax.tree.cast(PARAMS, dtype), optax.tree.cast(GRADS, grad_dtype)
    updates, state = _run(tx, params, grads)
    assert _dtypes(updates) == {dtype}
    assert _dtypes((tx.init(params), state)) <= {"float32", "int32"}
    same, _ = _run(tx, optax.tree.cast(params, "float32"), optax.tree.cast(grads, "float32"))
    _close(optax.tree.cast(updates, "float32"), same, rtol=max(1e-6, float(jnp.finfo(dtype).eps)))


def test_float64_mode_keeps_theta_and_state_float32(optimizer, theta):
    with jax.enable_x64(True):
        params = jnp.ones(3, jnp.float64)
        updates, state = _run(optimizer.transform(theta), params, [params])
        drawn = jax.eval_shape(optimizer.init, jax.random.key(0))
    assert _dtypes(updates) == {"float64"}
    assert _dtypes(state) <= {"float32", "int32"}
    assert _dtypes(drawn) == {"float32"}


def test_leaves_of_every_rank_and_none(tx):
    shapes = [(), (0, 3), (2, 1, 3), (1, 2, 1, 1, 3)]  # one axis and two are in every other test
    params = {"none": None, "some": [_normal(i, *shape) for i, shape in enumerate(shapes)]}
    grads = {"none": None, "some": [_normal(i + 50, *shape) for i, shape in enumerate(shapes)]}
    (_, updates), _ = _run(tx, params, [grads, grads])
    assert updates["none"] is None
    assert [leaf.shape for leaf in updates["some"]] == shapes
    assert all(np.all(np.isfinite(update) & (update != 0)) for update in updates["some"])


def test_none_leaves_change_nothing_for_the_others(tx):
    updates, _ = _run(tx, {**PARAMS, "frozen": None}, [{**grads, "frozen": None} for grads in GRADS])
    _equal(updates, [{**plain, "frozen": None} for plain in _run(tx, PARAMS, GRADS)[0]])


def test_params_may_be_empty_or_one_array(tx):
    assert _run(tx, {}, [{}, {}])[0] == [{}, {}]
    updates, _ = _run(tx, PARAMS["w"], [grads["w"] for grads in GRADS])
    _equal([{"w": update} for update in updates], _run_w_alone(tx))


def test_unknown_extra_arguments_are_ignored(tx):
    plain = _run(tx, PARAMS, GRADS)
    _equal(_run(tx, PARAMS, GRADS, epoch=3, batch=jnp.ones(4), nothing=None), plain)


def test_the_loss_may_be_passed_in_any_dtype(optimizer, theta):
    """Those that use it get the same from a bfloat16 and a float32, and take a float; without it they go on as well."""
    tx = optimizer.transform(theta, num_steps=50)
    expected, state = _run(tx, W, W_GRADS, value=jnp.asarray(2.5))
    _close(_run(tx, W, W_GRADS, value=jnp.asarray(2.5, jnp.bfloat16)), (expected, state))
    from_float = jax.eval_shape(tx.update, W_GRADS[0], state, W, value=2.5)
    assert from_float == jax.eval_shape(tx.update, W_GRADS[0], state, W, value=jnp.asarray(2.5))
    updates, state = jax.jit(tx.update)(W_GRADS[1], state, W)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((updates, state)))


def test_chain(tx):
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(GRADS[0])))
    clipped = jax.tree.map(lambda leaf: leaf * (0.5 / norm), GRADS[0])
    updates, _ = _run(optax.chain(optax.clip_by_global_norm(0.5), tx, optax.scale(2.0)), PARAMS, GRADS[:1])
    _close(updates, jax.tree.map(lambda leaf: 2.0 * leaf, _run(tx, PARAMS, [clipped])[0]))


def test_masked(tx):
    updates, _ = _run(optax.masked(tx, {"b": False, "w": True}), PARAMS, GRADS)
    _close([{"w": u["w"]} for u in updates], _run_w_alone(tx))
    _equal([u["b"] for u in updates], [grads["b"] for grads in GRADS])


def test_multi_transform(tx):
    both = optax.multi_transform({"learned": tx, "sgd": optax.sgd(0.5)}, {"b": "sgd", "w": "learned"})
    updates, _ = _run(both, PARAMS, GRADS)
    _close([{"w": u["w"]} for u in updates], _run_w_alone(tx))
    _equal([u["b"] for u in updates], [-0.5 * grads["b"] for grads in GRADS])


@pytest.mark.optax_promotion
def test_multi_steps(tx):
    first, second = W_GRADS
    updates, _ = _run(optax.MultiSteps(tx, every_k_schedule=2), W, [first, second, second, second])
    mean = jax.tree.map(lambda a, b: (a + b) / 2, first, second)
    expected, _ = _run(tx, W, [mean, second])
    _equal(updates[::2], jax.tree.map(np.zeros_like, expected))
    _close(updates[1::2], expected)


@pytest.mark.optax_promotion
def test_inject_hyperparams(tx):
    scaled = optax.inject_hyperparams(lambda scale: optax.chain(tx, optax.scale(scale)))(scale=0.5)
    update = jax.jit(scaled.update)
    plain = _run_w_alone(tx)
    updates, state = update(W_GRADS[0], scaled.init(W), W)
    _close(updates, jax.tree.map(lambda leaf: 0.5 * leaf, plain[0]))
    state.hyperparams["scale"] = jnp.asarray(3.0)
    updates, state = update(W_GRADS[1], state, W)
    _close(updates, jax.tree.map(lambda leaf: 3.0 * leaf, plain[1]))


@pytest.mark.optax_promotion
def test_apply_if_finite_skips_a_nan_gradient(tx):
    finite = optax.apply_if_finite(tx, max_consecutive_errors=5)
    bad = {**GRADS[1], "w": GRADS[1]["w"].at[0, 1].set(jnp.nan)}
    _, before = _run(finite, PARAMS, GRADS[:1])
    updates, after = _run(finite, PARAMS, [GRADS[0], bad])
    _equal(updates[1], jax.tree.map(np.zeros_like, PARAMS))
    _equal(after.inner_state, before.inner_state)
    assert int(after.total_notfinite) == 1


def test_a_nan_gradient_gives_nan_updates_for_its_tensor(tx):
    """And for no other, unless the architecture mixes tensors: then another's gradient changes what this one gets."""
    bad = {**GRADS[0], "w": GRADS[0]["w"].at[0, 1].set(jnp.nan)}
    usual, other, updates = (_run(tx, PARAMS, [g])[0][0] for g in (GRADS[0], {**GRADS[0], "w": GRADS[1]["w"]}, bad))
    assert np.isnan(updates["w"][0, 1])
    mixes = np.any(usual["b"] != other["b"])
    assert mixes or np.array_equal(updates["b"], usual["b"])


def test_map_params_finds_the_slots(tx):
    state = tx.init(PARAMS)
    fits = lambda leaf, param: leaf.shape[: param.ndim] == param.shape
    mapped = optax.tree.map_params(tx, fits, state, PARAMS, transform_non_params=lambda leaf: "other")
    found = jax.tree.leaves(mapped)
    assert len(found) == len(jax.tree.leaves(state))
    assert set(found) <= {True, "other"} and found.count(True) >= len(PARAMS) * len(_per_parameter(state.slots))


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e-10, 1e10, 1e20])
@pytest.mark.parametrize("scaled", ["gradients", "parameters", "loss"])
def test_values_of_any_scale_give_finite_updates(tx, scale, scaled):
    scaling = lambda tree: jax.tree.map(lambda leaf: leaf * scale, tree)
    params, grads = scaling(PARAMS) if scaled == "parameters" else PARAMS, GRADS
    value = jnp.asarray(3.0 * scale) if scaled == "loss" else jnp.asarray(1.0)
    if scaled == "gradients":
        grads = scaling(GRADS)
    updates, state = _run(tx, params, [*grads, *grads], value=value)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((updates, state)))


def test_a_horizon_may_be_given_or_not_and_passed(optimizer, theta, tx):
    """Four updates, the horizon passed half-way. A traced horizon gives the same, and 0 means None."""
    grads = [*GRADS, *GRADS]
    traced = jax.jit(lambda steps, *args: optimizer.transform(theta, num_steps=steps).update(*args))
    for num_steps, given in ((None, tx), (2, optimizer.transform(theta, num_steps=2))):
        updates, _ = _run(given, PARAMS, grads)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(updates))
        state, made, steps = tx.init(PARAMS), [], jnp.asarray(num_steps or 0, jnp.int32)
        for grad in grads:
            update, state = traced(steps, grad, state, PARAMS)
            made.append(update)
        _close(made, updates)


@pytest.mark.parametrize("num_steps", [0, -3, np.int32(0)])
def test_a_horizon_below_one_is_an_error(optimizer, theta, num_steps):
    with pytest.raises(ValueError, match=f"num_steps must be at least 1, got {int(num_steps)}. It is"):
        optimizer.transform(theta, num_steps=num_steps)


def test_step_scale_and_weight_decay(optimizer, theta, tx):
    """`scale(count) * (update - decay * param)`, and the decay only where the mask says so."""
    schedule = lambda count: jnp.where(count == 0, 0.5, 0.05)
    mask = {"b": False, "w": True}
    made = optimizer.transform(theta, step_scale=schedule, weight_decay=0.2, mask=mask)
    updates, _ = _run(made, PARAMS, GRADS)
    for scale, have, plain in zip((0.5, 0.05), updates, _run(tx, PARAMS, GRADS)[0], strict=True):
        expected = {"b": scale * plain["b"], "w": scale * (plain["w"] - 0.2 * PARAMS["w"])}
        _close(have, expected)
    constant = _run_w_alone(optimizer.transform(theta, step_scale=0.5))
    _close(constant, jax.tree.map(lambda leaf: 0.5 * leaf, _run_w_alone(tx)))


def test_a_mask_without_weight_decay_is_an_error(optimizer, theta):
    with pytest.raises(ValueError, match="mask says which parameters decay, so it needs weight_decay"):
        optimizer.transform(theta, mask={"b": False, "w": True})


def test_momenta_may_be_bfloat16(optimizer, theta, tx):
    """Those slots shrink and no others, and the updates stay near those of float32 moments."""
    made = optimizer.transform(theta, moment_dtype=jnp.bfloat16)
    (_, updates), state = _run(made, PARAMS, GRADS)
    (_, expected), full = _run(tx, PARAMS, GRADS)
    assert _dtypes(updates) == {"float32"}
    assert _dtypes(state.slots) <= {"bfloat16", "float32"}
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, full)
    _close(updates, expected, rtol=0.1)


def test_sharded_parameters_keep_their_sharding(tx):
    """On two devices: whatever has the shape of a parameter is laid out as it is, in the state and in the update."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("x",))
    layout = {"b": jax.P(None), "w": jax.P("x", None)}
    place = lambda tree: {k: jax.device_put(v, jax.sharding.NamedSharding(mesh, layout[k])) for k, v in tree.items()}
    params = place(PARAMS)
    state = tx.init(params)
    updates, state_after = jax.jit(tx.update)(place(GRADS[0]), state, params)
    _close(updates, _run(tx, PARAMS, GRADS[:1])[0][0])
    for tree in (*_per_parameter(state.slots), *_per_parameter(state_after.slots), updates):
        for path, leaf in jax.tree.leaves_with_path(tree):
            param = params[path[-1].key]
            if leaf.shape[: param.ndim] == param.shape:
                assert leaf.sharding.is_equivalent_to(
                    jax.sharding.NamedSharding(mesh, layout[path[-1].key]), leaf.ndim
                ), jax.tree_util.keystr(path)


def test_the_state_may_be_donated(tx):
    """No buffer of it is there twice, or belongs to theta or the parameters: these are whole afterwards."""
    update = jax.jit(tx.update, donate_argnums=1)
    for _ in range(2):
        state = tx.init(PARAMS)
        for grads in GRADS:
            updates, state = update(grads, state, PARAMS)
    _equal(updates, _run(tx, PARAMS, GRADS)[0][1])


def test_state_survives_an_orbax_round_trip(tx, tmp_path):
    _, state = _run(tx, PARAMS, GRADS[:1])
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", jax.eval_shape(tx.init, PARAMS))
    _equal(restored, state)
    update = jax.jit(tx.update)
    _equal(update(GRADS[1], restored, PARAMS), update(GRADS[1], state, PARAMS))


def test_permuting_coordinates_permutes_the_updates(tx):
    """Along any axis of a tensor; the order of coordinates carries no meaning."""
    permute = lambda tree: {"b": tree["b"][np.array([2, 0, 1])], "w": tree["w"][::-1][:, np.array([1, 2, 0])]}
    updates, _ = _run(tx, permute(PARAMS), [permute(grads) for grads in GRADS])
    _close(updates, [permute(u) for u in _run(tx, PARAMS, GRADS)[0]])


def test_vmap_over_theta_and_params_equals_a_loop(optimizer):
    thetas = [goldens.fixed_theta(optimizer, seed) for seed in (3, 4)]
    many_params = [_tree(5), _tree(6)]
    stack = lambda trees: jax.tree.map(lambda *leaves: np.stack(leaves), *trees)

    def two_updates(theta, params):
        tx = optimizer.transform(theta)
        step = lambda state, grads: tx.update(grads, state, params)[::-1]
        return jax.lax.scan(step, tx.init(params), stack(GRADS))[1]

    expected = stack(list(map(jax.jit(two_updates), thetas, many_params)))
    _close(jax.jit(jax.vmap(two_updates))(stack(thetas), stack(many_params)), expected)


def test_update_without_params_is_an_error(tx):
    with pytest.raises(ValueError, match=r"params=None: call tx\.update\(grads, state, params\)"):
        tx.update(GRADS[0], tx.init(PARAMS))


@pytest.mark.parametrize("grads", [{"b": GRADS[0]["b"]}, {**GRADS[0], "w": None}, list(GRADS[0].values())])
def test_gradients_of_another_structure_are_an_error(tx, grads):
    with pytest.raises(ValueError, match="gradients and params must have the same structure"):
        tx.update(grads, tx.init(PARAMS), PARAMS)


@pytest.mark.parametrize("shape", [(3, 2), (1, 3), (3,), (7, 2, 3)])
def test_gradients_of_another_shape_are_an_error(tx, shape):
    with pytest.raises(ValueError, match=r"'w'.*gradient has shape.*the parameter \(2, 3\)"):
        tx.update({**GRADS[0], "w": jnp.ones(shape)}, tx.init(PARAMS), PARAMS)


@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64"])
def test_parameters_that_are_not_real_floats_are_an_error(tx, dtype):
    with pytest.raises(TypeError, match=rf"params\['index'\] has dtype {dtype}.*Put None in its place"):
        tx.init({**PARAMS, "index": jnp.zeros(3, dtype)})


def test_theta_of_other_sizes_or_another_architecture_is_an_error(optimizer, theta):
    doubled = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), theta)
    others = [goldens.fixed_theta(other) for other in OPTIMIZERS.values() if other is not optimizer]
    for wrong in (doubled, {}, *others):
        with pytest.raises(ValueError, match=rf"theta must come from the init of this '{optimizer.spec['kind']}'"):
            optimizer.transform(wrong)


def test_every_constructor_is_exported():
    """`learned_optim` exports each architecture of the registry by name, for readers and for type checkers."""
    for kind, constructor in optimizers.KINDS.items():
        assert getattr(learned_optim, kind, None) is constructor, f"import {kind} in learned_optim/__init__.py"
        assert kind in learned_optim.__all__, f"add {kind} to __all__ in learned_optim/__init__.py"


def test_no_file_but_the_registry_and_the_exports_names_the_architectures_one_by_one():
    """An architecture is a file, an entry in the registry and an export. No other file has to list architectures."""
    root = pathlib.Path(__file__).parents[3]
    lists = {root / "learned_optim" / "__init__.py", root / "learned_optim" / "optimizers" / "__init__.py"}
    count = lambda path: sum(
        bool(re.search(rf"\b{kind}\b", path.read_text(encoding="utf-8"))) for kind in optimizers.KINDS
    )
    assert {count(path) for path in lists} == {len(optimizers.KINDS)}
    rooms = ("learned_optim", "meta_train", "benchmarks", "tests")
    sources = [path for room in rooms for path in (root / room).rglob("*.py")]
    assert len(sources) > 50
    assert {path for path in sources if count(path) > len(optimizers.KINDS) // 2} == lists
